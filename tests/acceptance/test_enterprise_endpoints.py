"""Endpoints behind a proxy, a private authority or a client certificate: real TLS, real proxies, a real process."""

import base64
import json
import signal
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.acceptance.forward_proxies import CREDENTIALS, NAMES, PASSWORD, MisbehavingProxy, forward_proxy
from tests.acceptance.harness import NO_RETRY_SOON, Answer, Api, Daemon, Receiver, hookd, read_report, wait_until

CA = trustme.CA()
OTHER_CA = trustme.CA()
SERVER = CA.issue_cert("localhost", "127.0.0.1")
FIRST, SECOND = (CA.issue_cert(common_name="hookd") for _ in range(2))
UNREACHABLE = "unreachable"


def pem(certificate: trustme.LeafCert) -> str:
    return "".join(part.bytes().decode() for part in certificate.cert_chain_pems)


def key(certificate: trustme.LeafCert) -> str:
    return certificate.private_key_pem.bytes().decode()


def authority(ca: trustme.CA = CA) -> str:
    return ca.cert_pem.bytes().decode()


class TlsReceiver(Receiver):
    """A receiver that wants a certificate of CA, and notes the serial number of each that it is shown."""

    def __init__(self, *, wants_certificate: bool = True) -> None:
        super().__init__()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 sets, and trustme's certificates fail
        SERVER.configure_cert(context)
        CA.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED if wants_certificate else ssl.CERT_NONE
        self.serials: list[str] = []
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return super().url.replace("http://127.0.0.1", "https://localhost")

    def receive(self, handler: BaseHTTPRequestHandler) -> None:
        assert isinstance(handler.connection, ssl.SSLSocket)
        self.serials.append(str((handler.connection.getpeercert() or {}).get("serialNumber")))
        super().receive(handler)


def write(directory: Path, certificate: trustme.LeafCert = FIRST) -> None:
    """What the configuration names."""
    (directory / "ca.pem").write_text(authority())
    (directory / "client.pem").write_text(pem(certificate))
    (directory / "client.key").write_text(key(certificate))
    (directory / "client.key").chmod(0o600)


def last_attempt(api: Api, client: str, event: str) -> dict[str, Any]:
    """Once it has ended."""

    def ended() -> dict[str, Any] | None:
        attempts = api.get(f"/v1/clients/{client}/events/{event}")["deliveries"][0]["attempts"]
        return attempts[-1] if attempts and attempts[-1]["outcome"] else None

    return wait_until(ended, what=f"an attempt of {event}")


def sent(api: Api, client: str, event: str) -> dict[str, Any]:
    assert api.post(client, event).status == 202
    return last_attempt(api, client, event)


@pytest.fixture
def receiver() -> Iterator[TlsReceiver]:
    with TlsReceiver() as receiver:
        yield receiver


EGRESS = '[egress]\nca_file = "ca.pem"\nclient_certificate_file = "client.pem"\nclient_key_file = "client.key"\n'


def test_private_authority_and_client_certificate_of_all_and_of_one(tmp_path: Path, receiver: TlsReceiver) -> None:
    """`[egress]` for who has none of its own; an endpoint's own win; without any it is said what is missing."""
    write(tmp_path)
    (tmp_path / "own.pem").write_text(pem(SECOND))
    (tmp_path / "own.key").write_text(key(SECOND))
    config = tmp_path / "hookd.toml"
    config.write_text(
        f'{EGRESS}[[clients]]\nid = "config"\n[[clients.endpoints]]\nurl = "{receiver.url}"\n'
        'client_certificate_file = "own.pem"\nclient_key_file = "own.key"\n'
    )
    with Daemon(tmp_path / "run", "--config", str(config), settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("shared", {"url": receiver.url})
        own = {"url": receiver.url, "ca": authority(), "client_certificate": pem(SECOND), "client_key": key(SECOND)}
        api.put_client("own", own)
        api.put_client("distrusting", {"url": receiver.url, "ca": authority(OTHER_CA)})
        for client in ("shared", "own", "config"):
            assert sent(api, client, "first")["status_code"] == 200
        failed = sent(api, "distrusting", "first")
        assert (failed["outcome"], failed["request_sent"]) == (UNREACHABLE, False)
        assert "its authority is not trusted here" in failed["error"]
        shared, api_own, config_own = receiver.serials
        assert api_own == config_own != shared

        shown = api.get("/v1/clients/own")["endpoints"][0]
        assert (shown["ca"], shown["client_certificate"]) == (authority(), pem(SECOND))
        assert shown["client_certificate_expires_at"].startswith("3000-")
        assert "PRIVATE KEY" not in json.dumps(api.get("/v1/clients"))
        assert "PRIVATE KEY" not in daemon.stderr
        assert "client_certificate.read" in daemon.stderr
        assert daemon.stop() == 3  # one is owed
        assert "PRIVATE KEY" not in daemon.report().read_text()


def test_files_that_change_are_read_on_sighup_and_bad_ones_are_not(tmp_path: Path, receiver: TlsReceiver) -> None:
    """The next connection shows the new certificate; with a bad one everything goes on as it was."""
    write(tmp_path)
    config = tmp_path / "hookd.toml"
    config.write_text(EGRESS)
    with Daemon(tmp_path / "run", "--config", str(config), settings=NO_RETRY_SOON) as daemon, daemon.api as api:

        def reloaded(line: str) -> None:
            count = daemon.stderr.count(line)
            daemon.signal(signal.SIGHUP)
            wait_until(lambda: daemon.stderr.count(line) > count, what=line)

        api.put_client("acme", {"url": receiver.url})
        assert sent(api, "acme", "first")["status_code"] == 200
        write(tmp_path, SECOND)
        assert sent(api, "acme", "before-the-signal")["status_code"] == 200
        reloaded("config.reloaded")
        assert sent(api, "acme", "renewed")["status_code"] == 200
        first, before, renewed = receiver.serials
        assert first == before != renewed
        for name, content, said in (
            ("client.key", key(FIRST), "does not belong to client_certificate"),
            ("client.pem", "nothing", "holds no certificate in PEM"),
            ("client.key", "", "is empty"),
            ("ca.pem", "nothing", "holds no certificate in PEM"),
        ):
            (tmp_path / name).write_text(content)
            reloaded("config.refused")
            setting = name.replace("client.pem", "client_certificate").replace(".", "_").removesuffix("_pem")
            assert f"egress.{setting}_file: {tmp_path}/{name} {said}" in daemon.stderr
            write(tmp_path, SECOND)
        assert sent(api, "acme", "still")["status_code"] == 200
        assert receiver.serials[-1] == renewed
        (tmp_path / "ca.pem").write_text(authority(OTHER_CA))
        reloaded("config.reloaded")
        assert "not trusted" in sent(api, "acme", "distrusted")["error"]
        assert daemon.stop() == 3


@pytest.mark.parametrize("name", NAMES)
def test_real_proxy_leads_to_endpoints_and_only_it_sees_its_credentials(name: str, tmp_path: Path) -> None:
    """A tunnel for https, absolute form for http; `HTTPS_PROXY` is not heard; a wrong password is said."""
    write(tmp_path)
    (tmp_path / "credentials").write_text(f"{CREDENTIALS}\n")
    (tmp_path / "credentials").chmod(0o600)
    environ = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    with (
        forward_proxy(name) as (port, asked),
        TlsReceiver() as secure,
        Receiver() as plain,
    ):
        config = tmp_path / "hookd.toml"
        proxy = f'proxy = "http://127.0.0.1:{port}"\nproxy_credentials_file = "credentials"\n'
        config.write_text(EGRESS + proxy)
        arguments = ("--config", str(config))
        with Daemon(tmp_path / "run", *arguments, settings=NO_RETRY_SOON, env=environ) as daemon, daemon.api as api:
            api.put_client("secure", {"url": secure.url})
            api.put_client("plain", {"url": plain.url})
            api.put_client("direct", {"url": plain.url, "proxy": ""})
            wrong = f"http://hookd:wr0ng@127.0.0.1:{port}"
            api.put_client("refused", {"url": secure.url, "proxy": wrong})
            api.put_client("refused-plain", {"url": plain.url, "proxy": wrong})
            for client in ("secure", "plain", "direct"):
                assert sent(api, client, f"to-{client}")["status_code"] == 200
            # In place of 407 tinyproxy says 401 here, which in absolute form may as well be the endpoint's.
            status = 407 if name == "squid" else 401
            failed = sent(api, "refused", "to-refused")
            assert (failed["outcome"], failed["request_sent"]) == (UNREACHABLE, False)
            assert failed["error"] == f"cannot connect: the proxy refused our credentials ({status})"
            failed = sent(api, "refused-plain", "to-refused-plain")
            if name == "squid":
                assert (failed["outcome"], failed["request_sent"]) == (UNREACHABLE, False)
            else:
                assert (failed["outcome"], failed["status_code"]) == ("responded", 401)
            assert api.get("/v1/clients/refused")["endpoints"][0]["proxy"] == f"http://***@127.0.0.1:{port}"
            clients = json.dumps(api.get("/v1/clients"))
            assert daemon.stop() == 3
        wait_until(lambda: "CONNECT" in asked.read_text(), what="the tunnel in the proxy's log")
        log = daemon.stderr + daemon.report().read_text() + clients
    assert secure.ids() == {"to-secure": 1}
    assert plain.ids() == {"to-plain": 1, "to-direct": 1}
    headers = {name for receiver in (secure, plain) for received in receiver.log for name in received.header}
    assert not any(header.startswith("proxy-") for header in headers)
    for text in (PASSWORD, "wr0ng", base64.b64encode(CREDENTIALS.encode()).decode()):
        assert text not in log


MISBEHAVING: dict[str, tuple[bytes | None, str]] = {
    "refuses": (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "the proxy answered 403: it does not allow"),
    "wants-credentials": (b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n", "the proxy wants credentials (407)"),
    "garbage": (bytes(range(255, 0, -1)), "the proxy's answer cannot be read: not HTTP"),
    "closes": (b"", "the proxy closed the connection before it answered"),
    "closes-halfway": (b"HTTP/1.1 200 Connection est", "the proxy closed the connection before it answered"),
    "closes-the-tunnel": (b"HTTP/1.1 200 Connection established\r\n\r\n", "TLS: "),
    "hangs": (None, "no answer within 1 s"),
}


def test_misbehaving_proxy_is_told_apart_and_nothing_is_in_doubt(tmp_path: Path) -> None:
    """Nothing went out before the tunnel stood: the report says `attempted_failed` of each, never `outcome_unknown`."""
    with ExitStack() as opened, TlsReceiver(wants_certificate=False) as receiver:
        proxies = {name: opened.enter_context(MisbehavingProxy(answer)) for name, (answer, _) in MISBEHAVING.items()}
        with Daemon(tmp_path / "run", settings=NO_RETRY_SOON) as daemon, daemon.api as api:
            for name, proxy in proxies.items():
                endpoint = {"url": receiver.url, "ca": authority(), "proxy": proxy.url, "timeout": "1s"}
                api.put_client(name, endpoint)
                assert api.post(name, "first", b'{"payload": 1}').status == 202
            for name, (answer, said) in MISBEHAVING.items():
                failed = last_attempt(api, name, "first")
                assert failed["outcome"] == ("timed_out" if answer is None else UNREACHABLE)
                assert said in failed["error"], name
                assert not failed["request_sent"]
            assert daemon.stop() == 3
            _, lines = read_report(daemon.report())
        assert {line["client_id"]: line["class"] for line in lines} == dict.fromkeys(MISBEHAVING, "attempted_failed")
    for proxy in proxies.values():
        (asked,) = proxy.asked
        assert asked.startswith(b"CONNECT localhost:")
    assert receiver.log == []


# --- bad input

BAD_ENDPOINTS: dict[str, tuple[dict[str, object], str]] = {
    "ca": ({"ca": "no PEM"}, "/endpoints/0/ca"),
    "ca of garbage": ({"ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "/endpoints/0/ca"),
    "ca is a number": ({"ca": 1}, "/endpoints/0/ca"),
    "certificate alone": ({"client_certificate": pem(FIRST)}, "/endpoints/0/client_certificate"),
    "key alone": ({"client_key": key(FIRST)}, "/endpoints/0/client_key"),
    "another's key": ({"client_certificate": pem(FIRST), "client_key": key(SECOND)}, "/endpoints/0/client_key"),
    "key is none": ({"client_certificate": pem(FIRST), "client_key": pem(FIRST)}, "/endpoints/0/client_key"),
    "too long": ({"ca": authority() * 40}, "/endpoints/0/ca"),
    "proxy without a port": ({"proxy": "http://proxy.example"}, "/endpoints/0/proxy"),
    "proxy over TLS": ({"proxy": "https://proxy.example:443"}, "/endpoints/0/proxy"),
    "proxy with a path": ({"proxy": "http://u:hush@proxy.example:1/x"}, "/endpoints/0/proxy"),
    "proxy is a list": ({"proxy": ["http://proxy.example:1"]}, "/endpoints/0/proxy"),
    "proxy at a denied port": ({"proxy": "http://proxy.example:6379"}, "/endpoints/0/proxy"),
    "denied port": ({"url": "https://hook.example:6379/"}, "/endpoints/0/url"),
    "a file of the daemon's": ({"client_key_file": "/etc/passwd"}, "/endpoints/0/client_key_file"),
}


def test_bad_fields_are_refused_as_documented_and_register_nothing(tmp_path: Path) -> None:
    """422 with a pointer; 409 for more sets than there may be; no answer and no line repeats a key or a password."""
    settings = {"egress.deny_ports": "[25, 6379]", "egress.tls_contexts_max": 2}
    with Daemon(tmp_path / "run", settings=settings) as daemon, daemon.api as api:

        def put(client: str, endpoint: dict[str, object]) -> Answer:
            return api.ask(
                "PUT", f"/v1/clients/{client}", {"endpoints": [{"url": "https://hook.example/", **endpoint}]}
            )

        for name, (fields, pointer) in BAD_ENDPOINTS.items():
            refused = put("bad", fields)
            assert (refused.status, refused.slug) == (422, "invalid-client"), name
            assert [error["pointer"] for error in refused.json["errors"]] == [pointer], name
            assert b"hush" not in refused.content
            assert b"PRIVATE KEY-----\\n" not in refused.content
            client = {"id": "bad", "endpoints": [{"url": "https://hook.example/", **fields}]}
            refused = api.ask("PUT", "/v1/clients", {"clients": [{**client, "id": "good"}, client]})
            assert (refused.status, refused.slug) == (422, "invalid-client"), name
            assert f"/clients/1{pointer}" in [error["pointer"] for error in refused.json["errors"]], name
        assert api.ask("GET", "/v1/clients/bad").status == 404

        for number in range(2):
            assert put(f"good-{number}", {"ca": authority() + "\n" * number}).status == 201
        full = put("third", {"ca": authority() + "\n" * 2})
        assert (full.status, full.slug) == (409, "registry-full")
        assert "egress.tls_contexts_max is 2" in full.json["detail"]
        all_at_once = [
            {"id": f"{n}", "endpoints": [{"url": "https://a.example/", "ca": authority() + " " * n}]} for n in (1, 2)
        ]
        full = api.ask("PUT", "/v1/clients", {"clients": all_at_once})
        assert (full.status, full.slug) == (409, "registry-full")
        assert put("same", {"ca": authority()}).status == 201
        assert put("good-0", {}).status == 200
        assert {client["id"] for client in api.get("/v1/clients")["clients"]} == {"good-0", "good-1", "same"}
        assert "hush" not in daemon.stderr
        assert daemon.stop() == 0


NEEDS_BOTH = "a client certificate needs both egress.client_certificate_file and egress.client_key_file"
BAD_SETTINGS: dict[str, tuple[str, str]] = {
    "port": ("deny_ports = [0]", "egress.deny_ports: entry 1: must be at least 1 and at most 65535"),
    "no list": ("deny_ports = 25", "egress.deny_ports: must be a list such as [25, 6379]"),
    "text": ('deny_ports = ["smtp"]', "egress.deny_ports: entry 1: must be a whole number"),
    "ca": ('ca_file = "missing.pem"', "egress.ca_file: {}/missing.pem cannot be read: No such file or directory"),
    "ca is a folder": ('ca_file = "."', "egress.ca_file: {} cannot be read: Is a directory"),
    "ca is none": ('ca_file = "client.key"', "egress.ca_file: {}/client.key holds no certificate in PEM"),
    "half": ('client_certificate_file = "client.pem"', f"egress.client_certificate_file: {NEEDS_BOTH}"),
    "key": (
        'client_certificate_file = "client.pem"\nclient_key_file = "ca.pem"',
        "egress.client_key_file: {}/ca.pem holds no private key in PEM",
    ),
    "proxy": (
        'proxy = "https://u:hush@proxy.example:1"',
        'egress.proxy: must be "http://HOST:PORT": a proxy is spoken to in plain http, and TLS goes through it',
    ),
    "credentials": (
        'proxy = "http://proxy.example:1"\nproxy_credentials_file = "ca.pem"',
        "egress.proxy: must be USER:PASSWORD on one line, at most 512 characters",
    ),
    "credentials of none": (
        'proxy_credentials_file = "client.key"',
        "egress.proxy_credentials_file: there is no egress.proxy to show them to",
    ),
    "contexts": ("tls_contexts_max = 0", "egress.tls_contexts_max: must be at least 1 and at most 10000"),
}


def test_bad_settings_are_78_with_their_line(tmp_path: Path) -> None:
    """All at once for `check` and `run`; the line is that of the key at fault."""
    write(tmp_path)
    for name, (text, said) in BAD_SETTINGS.items():
        config = tmp_path / "bad.toml"
        config.write_text(f"[egress]\n{text}\n")
        line = 1 + next(n for n, row in enumerate(text.split("\n"), 1) if row.startswith(said.split(":")[0][7:]))
        done = hookd("check", str(config))
        assert (done.returncode, done.stdout) == (78, ""), name
        assert done.stderr == f"{config}:{line}: {said.format(tmp_path)}\n"


def test_files_of_the_configurations_clients_are_held_to_the_same(tmp_path: Path) -> None:
    """The line of the key that names the file; a key that everyone reads is a warning."""
    write(tmp_path)
    (tmp_path / "open.key").write_text(key(FIRST))
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "other.key").write_text(key(SECOND))
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(b"s" * 24).decode())
    (tmp_path / "credentials").write_text("no colon")
    for name in ("other.key", "secret", "credentials"):
        (tmp_path / name).chmod(0o600)
    config = tmp_path / "hookd.toml"
    head = '[[clients]]\nid = "a"\n[[clients.endpoints]]\nurl = "https://a.example/"\nsecret_file = "secret"\n'
    config.write_text(
        f'{head}client_certificate_file = "client.pem"\nclient_key_file = "open.key"\nproxy = "http://p.example:1"\n'
    )
    good = hookd("check", str(config))
    assert good.returncode == 0
    assert good.stderr == (
        f"warning: clients[0].endpoints[0].client_key_file: everyone on this machine can read {tmp_path}/open.key; "
        "chmod o= it\n"
    )
    for text, said in (
        (
            'client_certificate_file = "client.pem"\nclient_key_file = "other.key"',
            "7: {}.client_key_file: does not belong",
        ),
        ('client_certificate_file = "none"\nclient_key_file = "client.key"', "6: {}.client_certificate_file: "),
        ('ca_file = "client.key"', "6: {}.ca_file: must be certificates in PEM"),
        (
            'proxy = "http://p.example:1"\nproxy_credentials_file = "credentials"',
            "7: {}.proxy_credentials_file: must be",
        ),
        ('proxy_credentials_file = "client.key"', "6: {}.proxy_credentials_file: there is no proxy"),
    ):
        config.write_text(f"{head}{text}\n")
        bad = hookd("check", str(config))
        assert bad.returncode == 78
        assert bad.stderr.count("\n") == 1, bad.stderr
        (line,) = bad.stderr.splitlines()
        assert line.startswith(f"{config}:{said.format('clients[0].endpoints[0]')}"), line
