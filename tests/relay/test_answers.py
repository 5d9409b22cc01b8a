"""What Redis answers is of the form that was asked for, or Redis is away; what is made of it then cannot fail."""

from typing import Any

import pytest
from hookd.relay.answers import NamedEntry, ReadAnswer, SurveyAnswer, TakeOverAnswer, entry_id, named, of_form, pairs
from hookd.relay.log_troubles import LogAway

ENTRY = [b"1-1", b"acme", b"order.paid", b"e1", b"{}", None, 42]


def test_answer_is_read_by_its_names() -> None:
    """As the scripts write it; a payload is not copied."""
    answer = of_form([b"1-1", 1, [ENTRY, [*ENTRY, 2]], [[b"acme", 3, 4]]], ReadAnswer)
    assert [one.deliveries for one in answer.found] == [0, 2]
    assert answer.found[0].payload is ENTRY[4]
    assert (answer.passed[0].entries, answer.passed[0].beyond) == (3, 4)


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (None, ReadAnswer),
        (b"OK", ReadAnswer),
        (1, ReadAnswer),
        ({}, ReadAnswer),
        ([], ReadAnswer),
        ([b"1-1", True, [], []], ReadAnswer),
        ([b"1-1", 1.5, [], []], ReadAnswer),
        (["MQ==", 1, [], []], ReadAnswer),
        ([b"1-1", 1, [], [], []], ReadAnswer),
        ([b"1-1", 1, [ENTRY[:6]], []], ReadAnswer),
        ([b"1-1", 1, [ConnectionError("inside")], []], ReadAnswer),
        ([0, 0, [[b"relay:a", None, 1]]], SurveyAnswer),
        ([[], [], 1, 0], TakeOverAnswer),
        (b"1-1", int),
        ([1], list[bytes]),
    ],
    ids=repr,
)
def test_answer_of_another_form_is_of_no_redis(answer: Any, form: Any) -> None:
    """Whatever else is there."""
    with pytest.raises(LogAway, match="no answer to what was asked"):
        of_form(answer, form)


@pytest.mark.parametrize("value", [b"", b"1", b"1-", b"-1", b"1-1 ", b"a-1", b"1-" + b"1" * 5000, b"\xff-1"])
def test_id_of_no_entry_is_of_no_redis(value: bytes) -> None:
    """It is compared by its numbers later on."""
    with pytest.raises(LogAway):
        entry_id(value)


def test_texts_are_anybodys() -> None:
    """No letter of theirs fails."""
    [one] = of_form([[b"1-1", b"\xff", None]], list[NamedEntry])
    assert (named(one).client_id, named(one).event_id) == ("\ufffd", "")
    assert pairs([b"http://feed", b"\xff"]) == {"http://feed": "\ufffd"}
    with pytest.raises(LogAway):
        pairs([b"http://feed"])
