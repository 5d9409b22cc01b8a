"""The client, and what its endpoints want and show."""

from base64 import b64encode

from hookd.core.client import Client, Endpoint

OWN = "whsec_" + b64encode(b"o" * 32).decode()
URL = "https://example.com/hook"


def test_endpoint_wants_what_it_subscribed_to() -> None:
    """No list wants all."""
    every = Endpoint(id="a", url=URL, secret=OWN)
    some = Endpoint(id="a", url=URL, secret=OWN, event_types=("invoice.*", "!invoice.draft"))
    assert every.wants("anything")
    assert [event_type for event_type in ("invoice.paid", "invoice.draft", "x") if some.wants(event_type)] == [
        "invoice.paid"
    ]


def test_repr_shows_neither_secret_nor_headers_nor_query() -> None:
    """A traceback that prints an endpoint gives nothing away."""
    endpoint = Endpoint(id="a", url=f"{URL}?token=hush", secret=OWN, headers=(("authorization", "hush"),))
    assert OWN not in repr(endpoint)
    assert "hush" not in repr(Client(id="c", endpoints=(endpoint,)))
