"""The signature, as a receiver's own library sees it."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hookd.core.signature import PREFIX, SECRET_BYTES, make_secret, sign
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + b64encode(b"o" * 32).decode()
EVENT_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def verify(secret: str, signature: str, body: bytes, *, event_id: str = EVENT_ID, timestamp: int) -> None:
    """Raises WebhookVerificationError; the receiver hands its library the raw body."""
    headers = {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}
    Webhook(secret).verify(body, headers)


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def test_sign_of_the_published_example_is_its_signature() -> None:
    """The golden vector of Standard Webhooks."""
    signature = sign([SECRET], event_id=EVENT_ID, timestamp=1614265330, body=b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"test": 2432232314}',
        '{"name":"Zoë, 東京 😀"}'.encode(),
        b'"\\u00e9\\ud83d\\ude00"',
        b' {"a" : 1e3}\n',
    ],
)
def test_sign_is_verified_by_the_receivers_library(body: bytes) -> None:
    """Also where the body is not ASCII or not canonical: it is the bytes that are signed."""
    timestamp = now()
    verify(SECRET, sign([SECRET], event_id=EVENT_ID, timestamp=timestamp, body=body), body, timestamp=timestamp)


@given(
    st.binary(min_size=24, max_size=64),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.dictionaries(st.text(), st.text() | st.integers()).map(lambda value: repr(value).encode("utf-8", "replace")),
)
def test_sign_with_any_secret_id_and_body_agrees_with_the_receivers_library(
    key: bytes, event_id: str, body: bytes
) -> None:
    """Ours and theirs are the same function."""
    secret = make_secret(key)
    theirs = Webhook(secret).sign(event_id, datetime.fromtimestamp(1614265330, UTC), body.decode())
    assert sign([secret], event_id=event_id, timestamp=1614265330, body=body) == theirs


@pytest.mark.parametrize(
    ("event_id", "body", "seconds", "secret"),
    [
        ("msg_other", b'{"a":1}', 0, SECRET),
        (EVENT_ID, b'{"a":2}', 0, SECRET),
        (EVENT_ID, b'{"a": 1}', 0, SECRET),
        (EVENT_ID, b'{"a":1}', -1, SECRET),
        (EVENT_ID, b'{"a":1}', 0, OTHER),
    ],
)
def test_sign_with_anything_changed_is_not_verified(event_id: str, body: bytes, seconds: int, secret: str) -> None:
    """Id, timestamp, every byte of the body and the secret all count."""
    timestamp = now()
    signature = sign([SECRET], event_id=EVENT_ID, timestamp=timestamp, body=b'{"a":1}')
    verify(SECRET, signature, b'{"a":1}', timestamp=timestamp)
    with pytest.raises(WebhookVerificationError):
        verify(secret, signature, body, event_id=event_id, timestamp=timestamp + seconds)


@pytest.mark.parametrize("secrets", [[SECRET, OTHER], [OTHER, SECRET]])
def test_sign_with_two_secrets_lists_both(secrets: Sequence[str]) -> None:
    """While a secret is being rotated, receivers with either of them verify."""
    timestamp = now()
    signature = sign(secrets, event_id=EVENT_ID, timestamp=timestamp, body=b"{}")
    parts = signature.split(" ")
    assert parts == [sign([one], event_id=EVENT_ID, timestamp=timestamp, body=b"{}") for one in secrets]
    assert all(part.startswith("v1,") for part in parts)
    for secret in secrets:
        verify(secret, signature, b"{}", timestamp=timestamp)
    with pytest.raises(WebhookVerificationError):
        verify(make_secret(b"x" * 32), signature, b"{}", timestamp=timestamp)


def test_made_secret_is_the_prefix_and_base64() -> None:
    """The form that every receiver's library takes."""
    assert make_secret(b"o" * SECRET_BYTES) == OTHER
    assert OTHER.startswith(PREFIX)
