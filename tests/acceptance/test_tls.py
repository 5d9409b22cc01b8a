"""TLS over a real process: what it announces, commands over it, a renewal by SIGHUP, what it will not start with."""

import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.acceptance.harness import NO_RETRY_SOON, Daemon, Receiver, environment, hookd, wait_until

CA = trustme.CA()


def write_certificate(directory: Path) -> None:
    certificate = CA.issue_cert("127.0.0.1")
    (directory / "chain.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    CA.cert_pem.write_to_path(str(directory / "ca.pem"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Beside its files, which it names as they stand there."""
    write_certificate(tmp_path)
    config = tmp_path / "hookd.toml"
    config.write_text('[http]\ncertificate_file = "chain.pem"\nkey_file = "key.pem"\n')
    return config


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_commands_speak_https_to_a_daemon_they_trust(config: Path, receiver: Receiver) -> None:
    """`listening on https://`; an event sent and followed; without the authority 69, and a message that says why."""
    arguments = ("--config", str(config), "--client", f"acme={receiver.url}")
    with Daemon(config.parent / "run", *arguments, settings=NO_RETRY_SOON, scheme="https") as daemon:
        trusting = environment(SSL_CERT_FILE=str(config.parent / "ca.pem"), HOOKD_URL=daemon.url)
        sent = hookd("send", "acme", "order.paid", '{"n": 1}', env=trusting)
        assert sent.returncode == 0, sent.stderr
        assert [received.body for received in receiver.log] == [b'{"n": 1}']
        refused = hookd("send", "acme", "order.paid", env=environment(HOOKD_URL=daemon.url))
        assert refused.returncode == 69
        assert f"the certificate of {daemon.url} is not trusted" in refused.stderr
        plain = hookd("send", "acme", "order.paid", env=environment(HOOKD_URL=daemon.url.replace("https", "http")))
        assert plain.returncode != 0
        assert "this address speaks https only" in plain.stderr
        assert daemon.stop() == 0


def test_renewed_certificate_is_read_on_sighup_and_a_bad_one_is_not(config: Path) -> None:
    """The old one is served on, and the log says which key and file are wrong."""
    with Daemon(config.parent / "run", "--config", str(config), scheme="https") as daemon:

        def served() -> str:
            return ssl.get_server_certificate(("127.0.0.1", daemon.port), timeout=10)

        first = served()
        write_certificate(config.parent)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: served() != first, what="the new certificate")
        second = served()
        (config.parent / "key.pem").write_text("no key\n")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "config.refused" in daemon.stderr, what="the refusal in the log")
        assert f"{config}:3: http.key_file: {config.parent}/key.pem holds no private key in PEM" in daemon.stderr
        assert served() == second
        assert daemon.stop() == 0


def test_bad_certificate_is_78_for_run_and_check(config: Path) -> None:
    """Before anything is bound, with file, line and key."""
    (config.parent / "key.pem").unlink()
    for arguments in (("check", str(config)), ("run", "--bind", "127.0.0.1:0", "--config", str(config))):
        done = hookd(*arguments)
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr == (
            f"{config}:3: http.key_file: {config.parent}/key.pem cannot be read: No such file or directory\n"
        )
    config.write_text('[http]\ncertificate_file = "chain.pem"\n')
    half = hookd("check", str(config))
    assert (half.returncode, half.stderr) == (
        78,
        f"{config}:2: http.certificate_file: TLS needs both http.certificate_file and http.key_file\n",
    )
