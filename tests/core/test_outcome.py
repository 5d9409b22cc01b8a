"""What one attempt came to, and what is said of it."""

import pytest
from hookd.core.outcome import (
    Blocked,
    Exchange,
    Invalid,
    Outcome,
    Responded,
    TimedOut,
    Unreachable,
    error,
    is_success,
    name,
    status_code,
)


@pytest.mark.parametrize(
    ("outcome", "word", "code", "said"),
    [
        (Responded(503), "responded", 503, None),
        (TimedOut(2.5), "timed_out", None, "no answer within 2.5 s"),
        (Unreachable("refused"), "unreachable", None, "refused"),
        (Blocked("127.0.0.1"), "blocked", None, "address 127.0.0.1 is not allowed"),
        (Invalid("not HTTP"), "invalid", None, "not HTTP"),
    ],
)
def test_outcome_has_a_word_a_code_or_an_error(outcome: Outcome, word: str, code: int | None, said: str | None) -> None:
    """An answer says it by its code, everything else in words."""
    assert (name(outcome), status_code(outcome), error(outcome)) == (word, code, said)


def test_no_outcome_has_neither_code_nor_error() -> None:
    """An attempt that was cut came to nothing."""
    assert (status_code(None), error(None)) == (None, None)


@pytest.mark.parametrize(
    ("code", "succeeded"), [(199, False), (200, True), (204, True), (299, True), (300, False), (404, False)]
)
def test_only_a_2xx_is_a_success(code: int, succeeded: bool) -> None:
    """Whatever its meaning; nothing but an answer is one."""
    assert is_success(Responded(code)) is succeeded
    assert not is_success(TimedOut(200))


def test_exchange_begins_with_nothing_sent_and_nothing_known() -> None:
    """What no sender touches was not sent: it may be sent again without doubt."""
    fresh = Exchange()
    assert (fresh.sending_started, fresh.request_sent) == (False, False)
    assert (fresh.reconnected, fresh.unanswered_before) == (False, False)
    assert (fresh.answer, fresh.retry_after, fresh.excerpt) == (None, None, b"")
