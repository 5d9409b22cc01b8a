"""What a client definition may say."""

import string
from base64 import b64encode
from typing import Any

import pytest
from hookd.core.client import Client, Endpoint
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.mistakes import Mistake
from hypothesis import given
from hypothesis import strategies as st

RULES = ClientRules(allow_http=False, endpoints_max=3, headers_max=2)
MADE = "whsec_" + b64encode(b"m" * 24).decode()
OWN = "whsec_" + b64encode(b"o" * 32).decode()
URL = "https://example.com/hook"


def read(definition: object, *, rules: ClientRules = RULES, **others: Any) -> Client:
    return client_from(definition, client_id="acme", rules=rules, new_secret=lambda: MADE, **others)


def mistakes(definition: object, *, rules: ClientRules = RULES) -> dict[str, str]:
    with pytest.raises(InvalidClient) as raised:
        read(definition, rules=rules)
    assert str(raised.value)
    return {mistake.pointer: mistake.detail for mistake in raised.value.mistakes}


def pointers(**fields: object) -> list[str]:
    """Where an endpoint with these fields is wrong; empty if it is not."""
    try:
        read({"endpoints": [{"url": URL} | fields]})
    except InvalidClient as error:
        return [mistake.pointer.removeprefix("/endpoints/0") for mistake in error.mistakes]
    return []


def test_short_form_is_one_endpoint_called_default() -> None:
    """A bare url is a whole definition; a secret is made for it."""
    client = read({"url": URL})
    assert client == Client(id="acme", endpoints=(Endpoint(id="default", url=URL, secret=MADE),))


def test_full_form_takes_every_field() -> None:
    """Durations become seconds, lists become tuples, headers keep their order."""
    entry = {"id": "billing", "url": URL, "secret": OWN, "event_types": ["invoice.*", "user.created"]}
    entry |= {
        "headers": {"x-team": "b", "authorization": "t k"},
        "timeout": "5s",
        "concurrency": 2,
        "schedule": ["1s", "2m"],
    }
    client = read({"endpoints": [entry]}, managed_by_config=True)
    assert client.managed_by_config
    assert client.endpoint("default") is None
    assert client.endpoint("billing") == Endpoint(
        id="billing",
        url=URL,
        secret=OWN,
        event_types=("invoice.*", "user.created"),
        headers=(("x-team", "b"), ("authorization", "t k")),
        timeout_seconds=5.0,
        concurrency=2,
        schedule_seconds=(1.0, 120.0),
    )


def test_null_is_the_same_as_leaving_a_key_out() -> None:
    """What a GET shows as null can be PUT back."""
    keys = ("id", "secret", "event_types", "headers", "timeout", "concurrency", "schedule", "give_up_on")
    assert read({"endpoints": [{"url": URL} | dict.fromkeys(keys)]}) == read({"url": URL})


def test_empty_schedule_means_one_attempt_and_is_not_the_default() -> None:
    """[] is an answer, None is the lack of one."""
    assert read({"endpoints": [{"url": URL, "schedule": []}]}).endpoints[0].schedule_seconds == ()
    assert read({"endpoints": [{"url": URL}]}).endpoints[0].schedule_seconds is None


def test_secret_given_wins_then_the_registered_one_then_a_new_one() -> None:
    """An endpoint that has a secret keeps it when none is given."""
    definition = {
        "endpoints": [{"id": "a", "url": URL, "secret": OWN}, {"id": "b", "url": URL}, {"id": "c", "url": URL}]
    }
    kept = "whsec_" + b64encode(b"k" * 24).decode()
    client = read(definition, secrets={"a": kept, "b": kept})
    assert [endpoint.secret for endpoint in client.endpoints] == [OWN, kept, MADE]


def test_all_mistakes_come_at_once_with_pointers() -> None:
    """One round trip is enough to mend a definition."""
    found = mistakes(
        {
            "endpoints": [
                {"id": "a", "url": "http://example.com", "timeout": "0s", "tiemout": "1s"},
                {"id": "a", "url": URL, "headers": {"host": "x"}, "schedule": ["1s", 5]},
                {"url": URL, "concurrency": True},
            ],
            "a/b~c": 1,
        }
    )
    assert set(found) == {
        "/a~1b~0c",
        "/endpoints/0/url",
        "/endpoints/0/timeout",
        "/endpoints/0/tiemout",
        "/endpoints/1/headers/host",
        "/endpoints/1/schedule/1",
        "/endpoints/1/id",
        "/endpoints/2",
        "/endpoints/2/concurrency",
    }
    assert 'did you mean "timeout"' in found["/endpoints/0/tiemout"]
    assert "egress.allow_http" in found["/endpoints/0/url"]
    assert "--dev" in found["/endpoints/0/url"]


@pytest.mark.parametrize(
    ("definition", "pointer"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        ({"endpoints": []}, "/endpoints"),
        ({"endpoints": {}}, "/endpoints"),
        ({"endpoints": [{"id": str(n), "url": URL} for n in range(4)]}, "/endpoints"),
        ({"endpoints": [1]}, "/endpoints/0"),
        ({"endpoints": [{}]}, "/endpoints/0"),
        ({"url": URL, "timeout": "5s"}, "/timeout"),
        ({"url": URL, "endpoints": [{"url": URL}]}, "/url"),
        ({"url": None}, "/url"),
        ({"url": URL, "secret": ""}, "/secret"),
    ],
)
def test_definition_of_the_wrong_shape_is_refused_where_it_is_wrong(definition: object, pointer: str) -> None:
    """Shape mistakes point at the part that has them."""
    assert list(mistakes(definition)) == [pointer]


def test_client_id_is_checked() -> None:
    """A client's own id is part of the definition."""
    with pytest.raises(InvalidClient, match="id is 1 to 64"):
        client_from({"url": URL}, client_id="a b", rules=RULES, new_secret=lambda: MADE)


def test_mistake_in_a_url_is_told_where_it_stands() -> None:
    """What a URL may be is told by test_urls."""
    assert pointers(url="https://127.1/") == ["/url"]
    assert pointers(url=None) == ["/url"]


def test_plain_http_is_taken_only_where_allowed() -> None:
    """egress.allow_http is the one switch."""
    rules = ClientRules(allow_http=True, endpoints_max=1, headers_max=0)
    assert read({"url": "http://127.0.0.1:9000/hook"}, rules=rules).endpoints[0].url == "http://127.0.0.1:9000/hook"


@pytest.mark.parametrize("length", [24, 32, 64])
def test_secret_of_a_standard_length_is_taken(length: int) -> None:
    """24 to 64 bytes, as Standard Webhooks has it."""
    assert pointers(secret="whsec_" + b64encode(b"\xff" * length).decode()) == []


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        b64encode(b"x" * 24).decode(),
        "whsec_" + b64encode(b"x" * 23).decode(),
        "whsec_" + b64encode(b"x" * 65).decode(),
        "whsec_" + b64encode(b"x" * 25).decode().rstrip("="),
        "whsec_" + b64encode(b"\x00" * 25).decode().replace("AA==", "AB=="),
        "whsec_" + "-_" * 16,
        "whsec_" + "é" * 32,
        MADE + "\n",
        7,
    ],
)
def test_secret_that_receivers_could_not_decode_is_refused_and_not_repeated(secret: object) -> None:
    """The message says the form and never the secret."""
    found = mistakes({"url": URL, "secret": secret})
    assert list(found) == ["/secret"]
    assert not secret or secret == "whsec_" or str(secret) not in found["/secret"]


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({"x-a": "", "cookie": "a=b; c=d"}, []),
        ({"authorization": "Bearer ü"}, []),
        ({"": "x"}, ["/headers/"]),
        ({"x a": "x"}, ["/headers/x a"]),
        ({"x-a": "a\r\nb: c"}, ["/headers/x-a"]),
        ({"x-a": "a\x00"}, ["/headers/x-a"]),
        ({"x-a": " a"}, ["/headers/x-a"]),
        ({"x-a": "€"}, ["/headers/x-a"]),
        ({"x-a": 5}, ["/headers/x-a"]),
        ({"x-a": "a" * 4097}, ["/headers/x-a"]),
        ({"x-a": "1", "X-A": "2"}, ["/headers/X-A"]),
        ({"a": "1", "b": "2", "c": "3"}, ["/headers"]),
        ([], ["/headers"]),
    ],
)
def test_headers_are_names_and_printable_values(headers: object, where: list[str]) -> None:
    """Nothing an endpoint asks for can break a request open."""
    assert pointers(headers=headers) == where


HOP_BY_HOP = [
    "Connection",
    "keep-alive",
    "Proxy-Authorization",
    "te",
    "trailer",
    "Transfer-Encoding",
    "upgrade",
    "expect",
]
OURS = ["HOST", "content-length", "content-type", "accept-encoding", "user-agent", "webhook-id", "hookd-attempt"]


@pytest.mark.parametrize("name", HOP_BY_HOP + OURS)
def test_header_that_is_ours_or_the_connections_is_refused(name: str) -> None:
    """An endpoint's headers neither change the framing nor forge what hookd says."""
    assert pointers(headers={name: "x"}) == [f"/headers/{name}"]


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("event_types", ["a", "a.*", "A/b:c_d-e", "*", "a*", "*.*", "!a*b", "!*", "a" * 130], []),
        ("event_types", ["!", "a!", "!!a", "a b", "", 5, None, "a?", "[ab]"], [f"/event_types/{n}" for n in range(9)]),
        ("event_types", ["a" * 131, "!" + "a" * 131], ["/event_types/0", "/event_types/1"]),
        ("event_types", "a", ["/event_types"]),
        ("order", "any", []),
        ("order", "strict", []),
        ("order", "Strict", ["/order"]),
        ("order", ["strict"], ["/order"]),
        ("rate", "10/s", []),
        ("rate", "1/h", []),
        ("rate", "1001/s", ["/rate"]),
        ("rate", 10, ["/rate"]),
        ("rate", "10/day", ["/rate"]),
        ("give_up_on", [300, 400, 410, 599, "3xx", "4xx", "5xx"], []),
        ("give_up_on", [], []),
        ("give_up_on", [200, 299, 600, True, 400.0, "400", "2xx", "4XX", None], [f"/give_up_on/{n}" for n in range(9)]),
        ("give_up_on", 400, ["/give_up_on"]),
        ("give_up_on", [400] * 101, ["/give_up_on"]),
        ("paused", True, []),
        ("paused", False, []),
        ("paused", "true", ["/paused"]),
        ("paused", 1, ["/paused"]),
        ("trace_context", True, []),
        ("trace_context", False, []),
        ("trace_context", "true", ["/trace_context"]),
        ("event_types", ["a"] * 101, ["/event_types"]),
        ("timeout", "1h", []),
        ("timeout", "61m", ["/timeout"]),
        ("timeout", 15, ["/timeout"]),
        ("concurrency", 1000, []),
        ("concurrency", 0, ["/concurrency"]),
        ("concurrency", 1001, ["/concurrency"]),
        ("concurrency", 2.0, ["/concurrency"]),
        ("schedule", ["0s"] * 50, []),
        ("schedule", ["0s"] * 51, ["/schedule"]),
        ("schedule", ["31d"], ["/schedule/0"]),
        ("schedule", "5s", ["/schedule"]),
        ("id", "a" * 64, []),
        ("id", "a" * 65, ["/id"]),
        ("id", 5, ["/id"]),
    ],
)
def test_field_is_taken_within_its_range(field: str, value: object, where: list[str]) -> None:
    """Each field has one range, and what is outside is pointed at."""
    assert pointers(**{field: value}) == where


def test_trace_context_stands_beside_no_traceparent_of_its_own() -> None:
    """Two fields of one name would go out, and the receiver ignore both."""
    assert pointers(trace_context=True, headers={"TraceParent": "x"}) == ["/trace_context"]
    assert pointers(trace_context=False, headers={"traceparent": "x"}) == []


def test_number_too_long_to_print_is_refused_like_any_other() -> None:
    """Python refuses to show an integer of more than 4,300 digits, so no message does."""
    assert pointers(concurrency=10**5000) == ["/concurrency"]


def test_many_unknown_keys_are_counted_rather_than_listed() -> None:
    """A hostile definition costs a bounded answer."""
    found = mistakes({"url": URL} | {f"key{n}": n for n in range(10_000)})
    assert len(found) == 21
    assert found[""].startswith("10000 unknown keys")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(codec=None),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
URLS = st.builds(
    "".join, st.lists(st.sampled_from(["https", "http", "://", *":/?#[]@.%\\ é", "0x7f", "::1", "xn--", "a", "80"]))
)
FIELDS = {
    "id": st.text(string.ascii_letters, max_size=3) | JSON,
    "url": URLS | st.text().map(lambda text: f"https://{text}") | JSON,
    "secret": st.text().map(lambda text: f"whsec_{text}") | JSON,
    "event_types": st.lists(st.text(max_size=5)) | JSON,
    "headers": st.dictionaries(st.text(max_size=5), st.text(max_size=5)) | JSON,
    "timeout": st.text("0123456789.msh", max_size=6) | JSON,
    "concurrency": st.integers() | JSON,
    "schedule": st.lists(st.text("0123456789.msh", max_size=6)) | JSON,
    "other": JSON,
}
ENDPOINTS = st.fixed_dictionaries({}, optional=FIELDS)
DEFINITIONS = st.fixed_dictionaries({"endpoints": st.lists(ENDPOINTS | JSON, max_size=4)}) | ENDPOINTS | JSON


@given(DEFINITIONS)
def test_definition_of_any_kind_is_a_client_or_invalid(definition: object) -> None:
    """No JSON value makes anything but InvalidClient come out, and every mistake can be written in UTF-8."""
    found: tuple[Mistake, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    try:
        endpoints = read(definition).endpoints
    except InvalidClient as error:
        found = error.mistakes
    assert bool(found) != bool(endpoints)
    assert all(mistake.pointer.encode().decode() == mistake.pointer and mistake.detail for mistake in found)
