"""Endpoints that want to know who we are, or that a private authority vouches for: real TLS, and what is told of it."""

import datetime as dt
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
import trustme
from hookd.core.client_schema import PEM_CHARS_MAX
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import EndpointEgress, TlsIdentity
from hookd.core.outcome import Exchange, Outcome, Responded, Unreachable
from hookd.core.settings import EgressSettings, Settings
from hookd.core.sizing import CA_BYTES_A_CHARACTER, TLS_CONTEXT_BYTES
from hookd.edge.egress import HttpSender, open_sender, tls_mistakes
from hookd.edge.egress.tls_contexts import CannotUse, TlsContexts, context_of

from tests.core.pem import CA, CERTIFICATE, KEY, OTHER_CA, OTHER_CLIENT, ca_of, chain_of, key_of
from tests.edge.egress.forward_proxy import proxying
from tests.edge.egress.peers import OK, read_request, resolving, serving
from tests.edge.egress.test_proxy import request_to, through
from tests.edge.egress.test_tls import shake_hands_and_close

HOST = "hook.example"
NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
STRANGER = OTHER_CA.issue_cert(common_name="stranger")
OURS = EndpointEgress(ca=ca_of(), client_certificate=CERTIFICATE, client_key=KEY)
NO_CERTIFICATE = EndpointEgress(ca=ca_of())
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def mutual(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """An endpoint that lets in whoever shows a certificate of CA."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 sets, and trustme's certificates fail
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    CA.issue_cert(HOST).configure_cert(context)
    return context


@asynccontextmanager
async def receiving(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[str]]]:
    """A URL, and the serial numbers of the certificates that requests came with."""
    serials: list[str] = []

    async def handle(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SSLStream)
        while await read_request(stream):
            serials.append((stream.getpeercert() or {}).get("serialNumber", "none"))
            await stream.send_all(OK)

    async with serving(handle, context=context) as server:
        yield f"https://{HOST}:{server.port}/in", serials


@asynccontextmanager
async def sending(egress: EgressSettings | None = None) -> AsyncIterator[HttpSender]:
    effective = EffectiveSettings(Settings(dev=True, egress=egress or EgressSettings()))
    async with open_sender(effective, resolve=resolving("127.0.0.1")) as sender:
        yield sender


async def send(
    sender: HttpSender, url: str, egress: EndpointEgress | None, *, endpoint: str = "a"
) -> tuple[Outcome, Exchange]:
    exchange = Exchange()
    with trio.fail_after(10):
        return await sender.send(request_to(url, egress, endpoint=endpoint), exchange), exchange


def serial(pem: str) -> str:
    """As a peer is told."""
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip().partition("=")[2].lstrip("0")


@pytest.mark.parametrize("version", VERSIONS)
async def test_endpoint_that_wants_a_certificate_gets_the_endpoints_own(version: ssl.TLSVersion) -> None:
    """Verified against a private authority, on one connection for both requests."""
    async with receiving(mutual(version)) as (url, serials), sending() as sender:
        for _ in range(2):
            outcome, exchange = await send(sender, url, OURS)
            assert (outcome, exchange.request_sent) == (Responded(200), True)
    assert [one.lstrip("0") for one in serials] == [serial(CERTIFICATE)] * 2


async def test_certificate_goes_through_a_proxys_tunnel_to_the_endpoint() -> None:
    async with receiving(mutual()) as (url, serials), proxying() as proxy, sending() as sender:
        outcome, _ = await send(sender, url, OURS.over(through(proxy.port)))
        assert outcome == Responded(200)
        assert proxy.heads[0].startswith(b"CONNECT hook.example:")
    assert len(serials) == 1


async def test_nobody_is_handed_a_connection_that_was_made_with_another_certificate() -> None:
    """The same endpoint at the same place: after a PUT with a renewed certificate a new connection is made."""
    renewed = EndpointEgress(ca=ca_of(), client_certificate=chain_of(OTHER_CLIENT), client_key=key_of(OTHER_CLIENT))
    async with receiving(mutual()) as (url, serials), sending() as sender:
        for egress in (OURS, renewed, OURS):
            assert (await send(sender, url, egress))[0] == Responded(200)
    first, second, third = serials
    assert first == third != second


@asynccontextmanager
async def alerting(context: ssl.SSLContext) -> AsyncIterator[str]:
    """An endpoint whose handshakes fail as OpenSSL has it, with the alert."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
            nursery.start_soon(serve, shake_hands_and_close, listener, context, 1)
            yield f"https://{HOST}:{listener.getsockname()[1]}/in"


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_missing_or_refused_is_said_to_who_can_mend_it(version: ssl.TLSVersion) -> None:
    """No certificate, and one of an authority that the endpoint does not know."""
    wants = "wants a client certificate"
    unknown = "unknown ca: the endpoint does not take our client certificate: it does not know its authority"
    stranger = EndpointEgress(ca=ca_of(), client_certificate=chain_of(STRANGER), client_key=key_of(STRANGER))
    for egress, said in ((NO_CERTIFICATE, wants), (stranger, unknown)):
        async with alerting(mutual(version)) as url, sending() as sender:
            outcome, _ = await send(sender, url, egress)
        assert isinstance(outcome, Unreachable)
        assert said in outcome.error


async def test_authority_that_is_not_trusted_is_said_with_where_it_belongs() -> None:
    async with receiving(mutual()) as (url, serials), sending() as sender:
        for egress in (None, EndpointEgress(ca=ca_of(OTHER_CA))):
            outcome, exchange = await send(sender, url, egress)
            assert isinstance(outcome, Unreachable)
            assert outcome.error.startswith("cannot connect: TLS: ")
            assert "its authority is not trusted here" in outcome.error
            assert "egress.ca_file" in outcome.error
            assert not exchange.sending_started
    assert serials == []


async def test_distinct_sets_have_a_context_each_and_one_alone() -> None:
    """However many endpoints have it; the same context as long as its texts are the same."""
    made: list[TlsIdentity] = []

    def make(identity: TlsIdentity) -> ssl.SSLContext:
        made.append(identity)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    contexts = TlsContexts(3, on_evicted=lambda: None, make=make)
    first, second = TlsIdentity("a", "b", "c"), TlsIdentity("a", "b", "d")
    async with trio.open_nursery() as nursery:
        for identity in (first, second) * 5:
            nursery.start_soon(contexts.context, identity)
    assert sorted(made) == [first, second]
    assert await contexts.context(first) is await contexts.context(TlsIdentity("a", "b", "c"))
    assert await contexts.context(first) is not await contexts.context(second)
    assert contexts.count == 2


async def test_contexts_beyond_the_most_take_the_place_of_the_one_used_longest_ago() -> None:
    evicted: list[None] = []
    contexts = TlsContexts(
        2, on_evicted=lambda: evicted.append(None), make=lambda _: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    identities = [TlsIdentity(str(number), "", "") for number in range(3)]
    kept = [await contexts.context(identity) for identity in identities[:2]]
    assert await contexts.context(identities[0]) is kept[0]
    await contexts.context(identities[2])
    assert (contexts.count, len(evicted)) == (2, 1)
    assert await contexts.context(identities[0]) is kept[0]
    assert await contexts.context(identities[1]) is not kept[1]


async def test_one_whose_attempt_ends_while_its_context_is_made_leaves_it_to_the_others() -> None:
    entered, go = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def make(_: TlsIdentity) -> ssl.SSLContext:
        trio.from_thread.run_sync(entered.set, trio_token=token)
        trio.from_thread.run(go.wait, trio_token=token)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    contexts = TlsContexts(2, on_evicted=lambda: None, make=make)
    found: list[ssl.SSLContext] = []

    async def want() -> None:
        found.append(await contexts.context(TlsIdentity("a", "", "")))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, trio.open_nursery() as cut:
            cut.start_soon(want)
            await entered.wait()
            nursery.start_soon(want)
            cut.cancel_scope.cancel()
            go.set()
    assert found
    assert contexts.count == 1


async def test_context_that_cannot_be_made_fails_its_attempts_and_says_why() -> None:
    """It was proved; only another OpenSSL may see it so."""

    def make(identity: TlsIdentity) -> ssl.SSLContext:
        raise CannotUse("client_key", "does not belong to client_certificate")

    contexts = TlsContexts(2, on_evicted=lambda: None, make=make)
    with pytest.raises(httpx.ConnectError, match="TLS: client_key does not belong to client_certificate"):
        await contexts.context(TlsIdentity("a", "b", "c"))
    assert contexts.count == 0


def test_context_names_are_verified_and_tls_is_1_2_at_least() -> None:
    context = context_of(TlsIdentity(ca_of(), CERTIFICATE, KEY))
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 100  # certifi's too


def test_key_touches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the folder for temporary files is there."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    context_of(TlsIdentity("", CERTIFICATE, KEY))
    assert not list(tmp_path.iterdir())


# --- what is refused before it is registered


def openssl(*arguments: str, text: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def encrypted() -> str:
    return openssl("pkey", "-aes128", "-passout", "pass:x", text=KEY)


def weak(tmp_path: Path) -> tuple[str, str]:
    out = [str(tmp_path / "weak.key"), str(tmp_path / "weak.pem")]
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=a", "-keyout", out[0], "-out", out[1])
    return (tmp_path / "weak.pem").read_text(), (tmp_path / "weak.key").read_text()


def dated(not_before: dt.datetime, not_after: dt.datetime) -> tuple[str, str]:
    certificate = CA.issue_cert(common_name="hookd", not_before=not_before, not_after=not_after)
    return chain_of(certificate), key_of(certificate)


@contextmanager
def refused(part: str, detail: str) -> Iterator[list[EndpointEgress]]:
    egress: list[EndpointEgress] = []
    yield egress
    ((pointer, said),) = tls_mistakes(egress[0], wall=NOW.timestamp)
    assert pointer == part
    assert detail in said
    assert "-----" not in said


DAY = dt.timedelta(days=1)


def test_bad_certificates_and_keys_are_refused_with_the_part_at_fault(tmp_path: Path) -> None:
    """As the server's own are, and without a word of what they hold."""
    cases: list[tuple[str, str, EndpointEgress]] = []

    def case(part: str, detail: str, ca: str = "", certificate: str = "", key: str = "") -> None:
        cases.append((part, detail, EndpointEgress(ca=ca, client_certificate=certificate, client_key=key)))

    case("ca", "holds no certificate in PEM", KEY)
    case("ca", "holds no certificate in PEM", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n")
    case("ca", "holds no certificate in PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    case("client_certificate", "holds no certificate in PEM", ca_of(), KEY, KEY)
    case("client_key", "holds no private key in PEM", "", CERTIFICATE, CERTIFICATE)
    case("client_key", "holds no private key in PEM", "", CERTIFICATE, KEY.replace("\n", " "))
    case("client_key", "does not belong to client_certificate", "", CERTIFICATE, key_of(STRANGER))
    case("client_key", "is encrypted; store it without a passphrase", "", CERTIFICATE, encrypted())
    case("client_certificate", "is too weak", "", *weak(tmp_path))
    case("client_certificate", "expired at 2026-11-28T00:00:00.000Z", "", *dated(NOW - 9 * DAY, NOW - DAY))
    case("client_certificate", "is valid from 2026-11-30T00:00:00.000Z on", "", *dated(NOW + DAY, NOW + 9 * DAY))
    for part, detail, egress in cases:
        with refused(part, detail) as given:
            given.append(egress)


def test_good_ones_have_no_mistake() -> None:
    """Also where the certificate, its chain and the key stand in one text, with words between them."""
    both = f"Főtanúsítvány\n{CERTIFICATE}\n{KEY}"
    for egress in (OURS, NO_CERTIFICATE, EndpointEgress(), EndpointEgress(client_certificate=both, client_key=both)):
        assert list(tls_mistakes(egress, wall=NOW.timestamp)) == []


def test_trust_is_not_taken_from_a_client_certificates_chain() -> None:
    """What proves the chain is a context of its own."""
    chain = CERTIFICATE + ca_of(OTHER_CA)
    context = context_of(TlsIdentity("", chain, KEY))
    assert trustme_names(context) == []


def trustme_names(context: ssl.SSLContext) -> list[str]:
    return [str(one["subject"]) for one in context.get_ca_certs() if "trustme" in str(one["subject"])]


def test_authority_is_trusted_beside_certifis() -> None:
    assert len(trustme_names(context_of(TlsIdentity(ca_of(), "", "")))) == 1
    assert isinstance(CA, trustme.CA)


# In a process of its own: RSS never shrinks, so what came before would hide it.
MEASURE = """
import sys
from pathlib import Path
from hookd.core.endpoint_egress import TlsIdentity
from hookd.edge.egress.tls_contexts import context_of

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

texts = [Path(name).read_text() for name in sys.argv[1:]]
kept = [context_of(TlsIdentity(*texts))]
before = resident()
kept += [context_of(TlsIdentity(*texts)) for _ in range(15)]
print((resident() - before) // 15)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
@pytest.mark.parametrize("shared_bytes", [0, 64 * 1024])
def test_context_takes_no_more_than_is_counted_for_it(tmp_path: Path, shared_bytes: int) -> None:
    """With as many authorities and as long a chain as an endpoint may have; with egress.ca_file, what that adds."""

    def authorities(size: int) -> str:
        text = ""
        while len(more := text + ca_of(trustme.CA(key_type=trustme.KeyType.ECDSA))) <= size:
            text = more
        return text

    ca = authorities(shared_bytes or PEM_CHARS_MAX)
    chain = CERTIFICATE + authorities(PEM_CHARS_MAX - len(CERTIFICATE))
    files = []
    for name, text in (("ca", ca), ("chain", chain), ("key", KEY)):
        (tmp_path / name).write_text(text)
        files.append(str(tmp_path / name))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, timeout=120, check=True
    )
    taken, counted = int(done.stdout), TLS_CONTEXT_BYTES + CA_BYTES_A_CHARACTER * shared_bytes
    assert counted / 2 < taken <= counted, (taken, counted)
