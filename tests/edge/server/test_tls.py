"""TLS on the API's side: the certificate, the handshake, the goodbye, and a renewal."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from hookd.core.settings import HttpSettings, Settings
from hookd.edge.server.api_server import spare_connections
from hookd.edge.server.tls import BadCertificate, Tls, certificate_conflicts

from tests.edge.server.harness import (
    GET_BIG,
    GET_HELD,
    GET_LIVEZ,
    GET_OK,
    GET_OK_AND_CLOSE,
    Harness,
    in_memory,
    read_all,
    read_response,
    serving,
)

CA = trustme.CA()
CERTIFICATE = CA.issue_cert("localhost")
OTHER = CA.issue_cert("localhost")
LONG_AGO = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
FAR_OFF = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


def written(directory: Path, certificate: trustme.LeafCert = CERTIFICATE) -> tuple[str, str]:
    """The names of both files."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    return str(chain), str(key)


def tls_of(directory: Path) -> Tls:
    return Tls(*written(directory), wall=time.time)


def client_stream(transport: Any) -> trio.SSLStream[Any]:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return trio.SSLStream(transport, context, server_hostname="localhost")


async def connected(harness: Harness) -> trio.SSLStream[Any]:
    return client_stream(await harness.connect())


async def test_requests_go_over_tls_and_the_url_says_so(tmp_path: Path) -> None:
    """Kept alive, closed with TLS's goodbye (this client would call anything else broken), scheme https for the app."""
    async with serving(tls=tls_of(tmp_path)) as harness:
        assert harness.server.urls[0].startswith("https://127.0.0.1:")
        stream = await connected(harness)
        with trio.fail_after(5):
            await stream.send_all(GET_OK)
            await read_response(stream)
            await stream.send_all(GET_OK_AND_CLOSE)
            received = b""
            while data := await stream.receive_some():  # raises where the goodbye is missing
                received += data
            assert received.endswith(b"\r\n\r\nok")
            await stream.aclose()


async def test_plain_probe_is_answered_over_tls(tmp_path: Path) -> None:
    """Kept, and on the same connection the application is asked afterwards."""
    async with serving(tls=tls_of(tmp_path), plain_answers={"/livez": b"plain"}) as harness:
        stream = await connected(harness)
        with trio.fail_after(5):
            for sent, said in ((GET_LIVEZ, b"plain"), (GET_LIVEZ, b"plain"), (GET_OK, b"ok")):
                await stream.send_all(sent)
                await read_response(stream, said)
            await stream.aclose()


async def test_unix_socket_stays_plain(tmp_path: Path) -> None:
    """Only this machine reaches it."""
    path = f"{tmp_path}/hookd.sock"
    async with serving((f"unix:{path}",), tls=tls_of(tmp_path)) as harness, await trio.open_unix_socket(path) as stream:
        assert harness.server.urls == (f"unix:{path}",)
        await stream.send_all(GET_OK_AND_CLOSE)
        with trio.fail_after(5):
            assert (await read_all(stream)).endswith(b"ok")


async def test_refused_upload_is_answered_over_tls_too(tmp_path: Path) -> None:
    """The peer is still sending when the 413 comes and our side ends."""
    async with serving(tls=tls_of(tmp_path)) as harness:
        stream = await connected(harness)

        async def send() -> None:
            try:
                await stream.send_all(
                    b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
                )
            except trio.BrokenResourceError:
                pass

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 413")
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_slow_handshake_is_cut_and_counts_as_a_connection(
    sent: bytes, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The deadline of a head bounds it."""
    harness = in_memory(tls=tls_of(tmp_path), header_timeout_seconds=10)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.server.handle, ours)
        await theirs.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        assert harness.server.statistics().connections_open == 1
        began = trio.current_time()
        assert await read_all(theirs) == b""
        assert trio.current_time() - began == pytest.approx(10)
    assert harness.server.statistics().connections_open == 0


async def test_failed_handshake_costs_that_connection_only(tmp_path: Path) -> None:
    """Noise, plain http (which is told), TLS 1.1, a peer that trusts another: counted, logged when it changes."""
    async with serving(tls=tls_of(tmp_path)) as harness:
        assert (await harness.ask(GET_OK)).endswith(b"\r\n\r\nthis address speaks https only\n")
        assert not (await harness.ask(b"\0" * 100)).startswith(b"HTTP")
        distrusting, old = ssl.create_default_context(), ssl.create_default_context()
        with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        for context in (distrusting, old):
            stream = trio.SSLStream(await harness.connect(), context, server_hostname="localhost")
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
                await stream.do_handshake()
            await trio.aclose_forcefully(stream)
        stream = await connected(harness)
        with trio.fail_after(5):
            await stream.send_all(GET_OK)
            await read_response(stream)
        await stream.aclose()
        assert harness.server.statistics().handshakes_failed >= 3
        reasons = [fields["reason"] for event, fields in harness.logged if event == "handshake.failed"]
        assert reasons[0] == "HTTP_REQUEST"
        assert len(reasons) == len(set(reasons)) == 3, reasons


async def test_connection_over_the_limit_is_closed_without_a_handshake(tmp_path: Path) -> None:
    """A handshake is the dearest part of a connection: none is done only to say 503. One is done for a probe."""
    async with serving(tls=tls_of(tmp_path), connections_max=1) as harness:
        held = await connected(harness)
        with trio.fail_after(5):
            await held.send_all(GET_HELD)
            await harness.entered.wait()
            probe = await connected(harness)
            await probe.send_all(GET_LIVEZ)
            await read_response(probe, b"alive")
            spare = [await harness.connect() for _ in range(spare_connections(1))]
            assert await harness.ask(b"") == b""
        for stream in (held, probe, *spare):
            await trio.aclose_forcefully(stream)


async def test_deaf_peer_is_cut_at_the_write_deadline_over_tls(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Its buffer full, whatever layer the bytes wait in."""
    harness = in_memory(tls=tls_of(tmp_path), write_timeout_seconds=10)
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = client_stream(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.serve_one, ours)
        await stream.send_all(GET_BIG)
        began = trio.current_time()
        await harness.ended.wait()
    assert trio.current_time() - began == pytest.approx(10, abs=0.1)
    assert [event for event, _ in harness.logged] == ["connection.cut"]


async def test_stop_ends_idle_halfway_and_held_connections_over_tls(tmp_path: Path) -> None:
    """Idle ones and handshakes at once, requests after the grace."""
    async with serving(tls=tls_of(tmp_path)) as harness:
        idle, halfway, held = await connected(harness), await harness.connect(), await connected(harness)
        with trio.fail_after(5):
            await idle.send_all(GET_OK)
            await read_response(idle)
            await held.send_all(GET_HELD)
            await harness.entered.wait()
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert harness.server.statistics().connections_open == 3
            harness.server.stop(grace_seconds=0.2)
            assert await read_all(halfway) == b""
            assert await read_all(idle) == b""
            await idle.aclose()
            await harness.ended.wait()
        for stream in (halfway, held):
            await trio.aclose_forcefully(stream)


async def test_renewed_certificate_is_served_from_the_next_connection_on(tmp_path: Path) -> None:
    """A bad one is refused, and the old one served on; connections that are open go on as they began."""
    tls = tls_of(tmp_path)

    async def serial(harness: Harness) -> int:
        stream = await connected(harness)
        with trio.fail_after(5):
            await stream.do_handshake()
        number = int(stream.getpeercert()["serialNumber"], 16)
        await trio.aclose_forcefully(stream)
        return number

    async with serving(tls=tls) as harness:
        first = await serial(harness)
        open_one = await connected(harness)
        await open_one.do_handshake()
        chain, key = written(tmp_path, OTHER)
        tls.renew(chain, key)
        second = await serial(harness)
        assert second != first
        CERTIFICATE.private_key_pem.write_to_path(key)  # not the certificate's
        with pytest.raises(BadCertificate, match=r"^http.key_file: the key in .*key.pem does not belong to"):
            tls.renew(chain, key)
        assert await serial(harness) == second
        with trio.fail_after(5):
            await open_one.send_all(GET_OK)
            await read_response(open_one)
        await open_one.aclose()


def encrypted(directory: Path) -> str:
    _, key = written(directory)
    out = f"{directory}/encrypted.pem"
    command = ["openssl", "pkey", "-aes128", "-passout", "pass:x", "-in", key, "-out", out]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return out


def pem(directory: Path, name: str, content: bytes) -> str:
    (directory / name).write_bytes(content)
    return str(directory / name)


@pytest.mark.parametrize(
    ("case", "key", "words"),
    [
        ("no certificate file", "http.certificate_file", "nowhere.pem cannot be read: No such file"),
        ("no key file", "http.key_file", "nowhere.pem cannot be read: No such file"),
        ("certificate is a folder", "http.certificate_file", "cannot be read: Is a directory"),
        ("certificate is a FIFO", "http.certificate_file", "fifo is no plain file"),
        ("key is a FIFO", "http.key_file", "fifo is no plain file"),
        ("certificate is a device", "http.certificate_file", "/dev/zero is no plain file"),
        ("certificate is no PEM", "http.certificate_file", "noise.pem holds no certificate in PEM"),
        ("certificate is the key", "http.certificate_file", "key.pem holds no certificate in PEM"),
        ("key is no PEM", "http.key_file", "noise.pem holds no private key in PEM"),
        ("key is the certificate", "http.key_file", "chain.pem holds no private key in PEM"),
        ("another's key", "http.key_file", "other.pem does not belong to the certificate in"),
        ("encrypted", "http.key_file", "encrypted.pem is encrypted"),
        ("expired", "http.certificate_file", "chain.pem expired at 2021-01-02T00:00:00.000Z"),
        ("not yet", "http.certificate_file", "chain.pem is valid from 2090-01-01T00:00:00.000Z on"),
    ],
)
def test_bad_certificate_names_key_and_file(case: str, key: str, words: str, tmp_path: Path) -> None:
    """As an exception at start, and as a mistake of the configuration."""
    chain, private = written(tmp_path)
    nowhere, noise = f"{tmp_path}/nowhere.pem", pem(tmp_path, "noise.pem", bytes(range(256)))
    match case:
        case "no certificate file":
            chain = nowhere
        case "no key file":
            private = nowhere
        case "certificate is a folder":
            chain = str(tmp_path)
        case "certificate is a FIFO":
            os.mkfifo(f"{tmp_path}/fifo")
            chain = f"{tmp_path}/fifo"
        case "key is a FIFO":
            os.mkfifo(f"{tmp_path}/fifo")
            private = f"{tmp_path}/fifo"
        case "certificate is a device":
            chain = "/dev/zero"
        case "certificate is no PEM":
            chain = noise
        case "certificate is the key":
            chain = private
        case "key is no PEM":
            private = noise
        case "key is the certificate":
            private = chain
        case "another's key":
            private = pem(tmp_path, "other.pem", OTHER.private_key_pem.bytes())
        case "encrypted":
            private = encrypted(tmp_path)
        case "expired":
            day = dt.timedelta(days=1)
            written(tmp_path, CA.issue_cert("localhost", not_before=LONG_AGO, not_after=LONG_AGO + day))
        case "not yet":
            written(tmp_path, CA.issue_cert("localhost", not_before=FAR_OFF))
    with pytest.raises(BadCertificate) as caught:
        Tls(chain, private, wall=time.time)
    assert caught.value.key == key
    assert words in caught.value.detail
    settings = Settings(http=HttpSettings(certificate_file=chain, key_file=private))
    (conflict,) = certificate_conflicts(settings, time.time())
    assert conflict == ((key,), caught.value.detail)


def test_good_certificate_says_until_when(tmp_path: Path) -> None:
    """Also one that signed itself. TLS 1.2 at least."""
    until = dt.datetime(2080, 5, 6, tzinfo=dt.UTC)
    chain, key = written(tmp_path, CA.issue_cert("localhost", not_after=until))
    tls = Tls(chain, key, wall=time.time)
    assert tls.expires_at == until.timestamp()
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    own = [f"{tmp_path}/own.pem", f"{tmp_path}/own-key.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=h", "-days", "3"]
    subprocess.run([*command, "-out", own[0], "-keyout", own[1]], check=True, capture_output=True, timeout=60)
    assert Tls(*own, wall=time.time).expires_at == pytest.approx(time.time() + 3 * 86400, abs=120)
    assert list(certificate_conflicts(Settings(), time.time())) == []


async def test_half_closed_peer_gets_its_answer_over_tls(tmp_path: Path) -> None:
    """Its goodbye ends its sending and nothing else. OpenSSL itself reads on behind it; Trio's stream would not."""
    outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    CA.configure_trust(context)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with serving(tls=tls_of(tmp_path)) as harness, await harness.connect() as stream:

        async def step(call: Callable[[], Any]) -> Any:
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    await stream.send_all(outgoing.read())
                    incoming.write(await stream.receive_some())

        with trio.fail_after(5):
            await step(tls.do_handshake)
            tls.write(GET_HELD)
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
            await stream.send_all(outgoing.read())
            await harness.entered.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            harness.release.set()
            received = b""
            while not received.endswith(b"held"):
                received += await step(lambda: tls.read(4096))
    assert received.startswith(b"HTTP/1.1 200")
