"""A secret that changes, however it changes: what a receiver that verifies sees of it, over the API and by SIGHUP."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.acceptance.harness import Daemon, Received, Receiver, wait_until

A, B, C = (f"whsec_{letter * 32}" for letter in "ABC")
ROTATE = "/v1/clients/acme/endpoints/default/rotate-secret"


def verifies(secret: str, received: Received) -> bool:
    try:
        Webhook(secret).verify(received.body, received.header)
    except WebhookVerificationError:
        return False
    return True


class Signed:
    """A daemon with one client, and what its endpoint gets."""

    def __init__(self, directory: Path, stack: ExitStack, overlap: str = "24h") -> None:
        self.receiver = stack.enter_context(Receiver(200))
        self.secret_file = directory / "secret"
        self.config = directory / "hookd.toml"
        self.config.write_text("")
        arguments = ("--config", str(self.config))
        settings = {"delivery.secret_overlap": overlap}
        self._start = lambda: stack.enter_context(Daemon(directory, *arguments, settings=settings))
        self._stack = stack

    def start(self) -> None:
        self.daemon = self._start()
        self.api = self._stack.enter_context(self.daemon.api)

    def put(self, **fields: Any) -> dict[str, Any]:
        answer = self.api.ask("PUT", "/v1/clients/acme", {"url": self.receiver.url, **fields})
        assert answer.status in (200, 201), answer
        [endpoint] = answer.json["endpoints"]
        shown: dict[str, Any] = endpoint
        return shown

    def rotate(self, body: object = None) -> dict[str, Any]:
        answer = self.api.ask("POST", ROTATE, body)
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.json["endpoints"][0]
        return shown

    def configure(self, secret: str) -> None:
        """The client stands in the configuration, with its secret in a file."""
        self.secret_file.write_text(f"{secret}\n")
        self.secret_file.chmod(0o600)
        endpoint = f'[[clients.endpoints]]\nurl = "{self.receiver.url}"\nsecret_file = "{self.secret_file}"\n'
        self.config.write_text(f'[[clients]]\nid = "acme"\n{endpoint}')

    def reload(self) -> None:
        count = self.daemon.stderr.count('"event":"config.reloaded"')
        self.daemon.signal(signal.SIGHUP)
        wait_until(lambda: self.daemon.stderr.count('"event":"config.reloaded"') > count, what="the configuration")

    def signed_by(self, *secrets: str) -> bool:
        """Whether the next event verifies with each of these and with no other."""
        count = len(self.receiver.log)
        assert self.api.post("acme", f"e{count}").status == 202
        wait_until(lambda: len(self.receiver.log) > count, what="a delivery")
        received = self.receiver.log[-1]
        assert len(received.header["webhook-signature"].split()) == len(secrets)
        return {secret for secret in (A, B, C, *secrets) if verifies(secret, received)} == set(secrets)


@pytest.fixture(name="signed")
def _signed(tmp_path: Path) -> Iterator[Signed]:
    with ExitStack() as stack:
        yield Signed(tmp_path, stack)


def test_secret_changed_by_put_leaves_the_one_before_signing(signed: Signed) -> None:
    """And the one before that: a receiver changes over when it can."""
    signed.start()
    assert "secret" not in signed.put(secret=A)
    assert signed.signed_by(A)
    signed.put(secret=B)
    assert signed.signed_by(A, B)
    signed.put(secret=C)
    assert signed.signed_by(A, B, C)


def test_secret_file_and_sighup_leave_the_one_before_signing(signed: Signed) -> None:
    """A client of the configuration rotates so; the API refuses to, with 409, and changes nothing."""
    signed.configure(A)
    signed.start()
    assert signed.signed_by(A)
    signed.configure(B)
    signed.reload()
    assert signed.signed_by(A, B)
    signed.reload()  # nothing changed
    assert signed.signed_by(A, B)
    for body in (None, {"secret": C}):
        assert signed.api.ask("POST", ROTATE, body).slug == "managed-by-config"
    assert signed.api.ask("PUT", "/v1/clients/acme", {"url": signed.receiver.url}).slug == "managed-by-config"
    assert signed.signed_by(A, B)
    assert not [secret for secret in (A, B, C) if secret in signed.daemon.stderr]


def test_put_that_repeats_a_secret_in_force_changes_nothing(signed: Signed) -> None:
    """A platform's periodic PUT has the definition that it once stored: the current secret, or one that signs still."""
    signed.start()
    signed.put(secret=A)
    made = signed.rotate()["secret"]
    for stored in ({"secret": A}, {"secret": made}, {}):
        assert "secret" not in signed.put(**stored)
        assert signed.signed_by(A, made)


def test_rotation_takes_the_secret_that_it_is_given(signed: Signed) -> None:
    """It is not shown again; one that is none is refused, and so is a body that is no JSON."""
    signed.start()
    signed.put(secret=A)
    assert "secret" not in signed.rotate({"secret": B})
    assert signed.signed_by(A, B)
    for body, status in (({"secret": "whsec_no"}, 422), ({"sercet": C}, 422), (b"{", 400)):
        assert signed.api.ask("POST", ROTATE, body).status == status
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert signed.api.ask("POST", ROTATE, b"secret=x", form).slug == "unsupported-media-type"
    assert signed.signed_by(A, B)


@pytest.mark.parametrize("by", ["put", "configuration", "rotation"])
def test_overlap_ends_whatever_the_change_was(tmp_path: Path, by: str) -> None:
    """After `delivery.secret_overlap` the new one signs alone."""
    with ExitStack() as stack:
        signed = Signed(tmp_path, stack, overlap="2s")
        if by == "configuration":
            signed.configure(A)
        signed.start()
        if by == "configuration":
            signed.configure(B)
            signed.reload()
        else:
            signed.put(secret=A)
            signed.put(secret=B) if by == "put" else signed.rotate({"secret": B})
        count = 0

        def signs_alone() -> bool:
            nonlocal count
            count += 1
            assert signed.api.post("acme", f"again{count}").status == 202
            wait_until(lambda: len(signed.receiver.log) == count, what="a delivery")
            received = signed.receiver.log[-1]
            assert verifies(B, received)
            return not verifies(A, received)

        wait_until(signs_alone, seconds=20, what="the new secret alone")
        assert verifies(A, signed.receiver.log[0])
