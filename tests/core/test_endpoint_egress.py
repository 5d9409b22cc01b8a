"""How an endpoint is reached: its own parts over those of `[egress]`, what is held and what is printed."""

import base64
import tracemalloc

import pytest
from hookd.core.certificate_validity import validity
from hookd.core.client import Client, Endpoint
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import DIRECT, EGRESS_BYTES, EndpointEgress, Proxy, TlsIdentity
from hookd.core.refusal import RegistryFull
from hookd.core.registry import Registry
from hookd.core.settings import EgressSettings, Settings
from hookd.core.settings_checks import conflicts

from tests.core.pem import CERTIFICATE, KEY, ca_of

URL = "https://example.com/hook"
SHARED = EndpointEgress(ca="c", client_certificate="d", client_key="k", proxy=Proxy("p", 1, "a:b", is_judged=False))
RULES = ClientRules(allow_http=False, endpoints_max=3, headers_max=2, deny_ports=(25, 443))


def endpoint(egress: EndpointEgress | None, name: str = "default") -> Endpoint:
    return Endpoint(id=name, url=URL, secret="s", egress=egress)


@pytest.mark.parametrize(
    ("own", "in_force"),
    [
        (None, SHARED),
        (EndpointEgress(ca="o"), EndpointEgress(ca="o", client_certificate="d", client_key="k", proxy=SHARED.proxy)),
        (
            EndpointEgress(client_certificate="o", client_key="p"),
            EndpointEgress(ca="c", client_certificate="o", client_key="p", proxy=SHARED.proxy),
        ),
        (
            EndpointEgress(proxy=Proxy("q", 2)),
            EndpointEgress(ca="c", client_certificate="d", client_key="k", proxy=Proxy("q", 2)),
        ),
        (EndpointEgress(proxy=DIRECT), EndpointEgress(ca="c", client_certificate="d", client_key="k", proxy=DIRECT)),
    ],
)
def test_own_part_wins_and_the_others_are_shared(own: EndpointEgress | None, in_force: EndpointEgress) -> None:
    """A certificate never comes with another's key, and credentials never with another proxy."""
    effective = EffectiveSettings(Settings(egress=EgressSettings(shared=SHARED)))
    assert effective.egress(endpoint(own)) == in_force
    assert EffectiveSettings(Settings()).egress(endpoint(own)) == own


def test_tls_is_the_usual_where_nothing_is_said_of_it() -> None:
    assert EndpointEgress(proxy=DIRECT).tls is None
    assert EndpointEgress(ca="c").tls == TlsIdentity("c", "", "")


def test_what_is_held_is_charged_to_the_registry() -> None:
    """Within the texts and one allowance; what tracemalloc sees is no more."""
    made: list[EndpointEgress] = []
    tracemalloc.start()
    for number in range(200):
        proxy = Proxy(f"proxy-{number}.example", 3128, f"user:{number:050}")
        made.append(EndpointEgress(ca="c" * (4000 + number), client_certificate="d" * 3000 + str(number), proxy=proxy))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    charged = sum(one.held_bytes for one in made)
    assert 0.8 * charged < taken <= charged
    plain, with_it = (Client(id="a", endpoints=(endpoint(one),)) for one in (None, made[0]))
    assert with_it.held_bytes - plain.held_bytes == made[0].held_bytes > EGRESS_BYTES


def test_no_key_and_no_password_is_printed() -> None:
    settings = Settings(egress=EgressSettings(shared=EndpointEgress(client_certificate="cert", client_key="hush")))
    assert "hush" not in repr(settings)
    assert "a:b" not in repr(SHARED)
    assert "hush" not in repr(endpoint(EndpointEgress(client_certificate="cert", client_key="hush")))


# --- the definition


def pointers(**fields: object) -> dict[str, str]:
    try:
        client_from({"endpoints": [{"url": f"{URL}", **fields}]}, client_id="a", rules=RULES, new_secret=lambda: "s")
    except InvalidClient as invalid:
        return {mistake.pointer.removeprefix("/endpoints/0"): mistake.detail for mistake in invalid.mistakes}
    return {}


BAD: dict[str, tuple[dict[str, object], str]] = {
    "port of the url": ({}, "/url"),
    "ca is no text": ({"ca": 7, "url": "https://a.example:8443"}, "/ca"),
    "ca is no PEM": ({"ca": "x", "url": "https://a.example:8443"}, "/ca"),
    "ca is too long": ({"ca": ca_of() + " " * 16384, "url": "https://a.example:8443"}, "/ca"),
    "certificate without key": (
        {"client_certificate": CERTIFICATE, "url": "https://a.example:8443"},
        "/client_certificate",
    ),
    "key without certificate": ({"client_key": KEY, "url": "https://a.example:8443"}, "/client_key"),
    "key is a certificate": (
        {"client_certificate": CERTIFICATE, "client_key": CERTIFICATE, "url": "https://a.example:8443"},
        "/client_key",
    ),
    "proxy of https": ({"proxy": "https://p.example:1", "url": "https://a.example:8443"}, "/proxy"),
    "proxy at a denied port": ({"proxy": "http://p.example:25", "url": "https://a.example:8443"}, "/proxy"),
    "a file's name in the API": ({"ca_file": "/etc/passwd", "url": "https://a.example:8443"}, "/ca_file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_part_is_told_where_it_is_wrong(name: str) -> None:
    fields, pointer = BAD[name]
    found = pointers(**fields)
    assert list(found) == [pointer]
    assert "-----" not in found[pointer]
    if pointer == "/url":
        assert found[pointer] == "port 443 is not allowed (egress.deny_ports)"


def test_good_parts_are_the_endpoints_own() -> None:
    """A proxy of the API is judged by the address policy, one of the configuration is the operator's."""
    definition = {
        "endpoints": [
            {
                "url": "https://a.example:8443",
                "ca": ca_of(),
                "client_certificate": CERTIFICATE,
                "client_key": KEY,
                "proxy": "http://u:p@proxy.example:3128",
            },
            {"id": "direct", "url": "https://a.example:8443", "proxy": ""},
            {"id": "plain", "url": "https://a.example:8443", "ca": None, "client_key": None, "proxy": None},
        ]
    }
    definition["endpoints"][0]["id"] = "own"
    for by_config in (False, True):
        client = client_from(
            definition, client_id="a", rules=RULES, new_secret=lambda: "s", managed_by_config=by_config
        )
        own, direct, plain = client.endpoints
        proxy = Proxy("proxy.example", 3128, "u:p", is_judged=not by_config)
        assert own.egress == EndpointEgress(ca=ca_of(), client_certificate=CERTIFICATE, client_key=KEY, proxy=proxy)
        assert direct.egress == EndpointEgress(proxy=DIRECT)
        assert plain.egress is None


# --- how many contexts there may be


def client(name: str, *ca: str, by_config: bool = False) -> Client:
    endpoints = tuple(endpoint(EndpointEgress(ca=one), f"e{number}") for number, one in enumerate(ca))
    return Client(id=name, endpoints=endpoints, managed_by_config=by_config)


def test_registry_takes_no_more_distinct_sets_than_there_may_be_contexts() -> None:
    """The same set costs nothing more; one that goes makes room; what is refused changes nothing."""
    registry = Registry(EffectiveSettings(Settings(egress=EgressSettings(tls_contexts_max=3))))
    registry.put(client("a", "1", "2"))
    registry.put(client("b", "2", "1", "2"))
    registry.put(client("c", "3"))
    with pytest.raises(RegistryFull, match=r"4 different sets .* egress\.tls_contexts_max is 3"):
        registry.put(client("d", "4"))
    assert registry.find("d") is None
    registry.put(Client(id="plain", endpoints=(endpoint(None), endpoint(EndpointEgress(proxy=DIRECT), "b"))))
    registry.remove("a")
    with pytest.raises(RegistryFull):
        registry.put(client("d", "4"))
    registry.put(client("b", "2"))
    registry.put(client("d", "4"))
    registry.put(client("d", "3", "2"))
    registry.put(client("e", "5", by_config=True))
    registry.put(client("f", "6", by_config=True))  # the file's are refused before: at its reading, or as a whole
    with pytest.raises(RegistryFull):
        registry.put(client("g", "7"))


def test_clients_of_the_file_may_not_need_more() -> None:
    clients = (client("a", "1", "2", by_config=True), client("b", "3", by_config=True))
    settings = Settings(egress=EgressSettings(tls_contexts_max=2), clients=clients)
    assert [(one.keys, one.detail) for one in conflicts(settings)] == [
        (("egress.tls_contexts_max",), "2, and [[clients]] have 3 different sets of authorities and certificates")
    ]


# --- validity


def test_validity_is_read_from_the_first_certificate() -> None:
    """trustme's own: from 2000 to 3000, so one time is written in two digits of the year and the other in four."""
    assert validity(f"words\n{CERTIFICATE}{ca_of()}") == (946684800.0, 32503680000.0)


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", KEY])
def test_what_is_no_certificate_has_no_validity(pem: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        validity(pem)


def test_certificate_that_is_cut_anywhere_has_no_validity() -> None:
    """Bytes of a stranger: never anything but ValueError."""
    der = base64.b64decode("".join(CERTIFICATE.split("-----")[2].split()))
    for end in range(120):
        body = base64.b64encode(der[:end]).decode()
        try:
            validity(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----")
        except ValueError:
            continue
        raise AssertionError(end)
