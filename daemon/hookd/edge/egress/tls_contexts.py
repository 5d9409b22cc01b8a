"""Makes and keeps the TLS contexts of endpoints: one for each distinct set of authorities and client certificate.

Rules:
 * A context is found by the texts that it was made of, so none is ever stale: a renewed certificate is another one.
 * It is made when the first connection wants it, in a thread, one at a time: to read certifi's authorities takes 20 to
   40 ms, and holds up nobody.
 * At most `contexts_max` are kept. Beyond that the one that was used longest ago goes; `on_evicted` is told, since
   connections hold theirs.
 * TLS 1.2 at least. Nothing is taken from the environment.
 * Keys touch no disk: Python's ssl reads them from files only, so they are written to one in memory (memfd).

Does not prove what it is given (tls_identity.py). Worst-case memory: core/sizing.TLS_CONTEXT_BYTES each.

Known limits: a context that is used no more stays until another one takes its place. Connections in use keep theirs to
their end.
"""

import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import trio

from hookd.core.endpoint_egress import TlsIdentity

Make = Callable[[TlsIdentity], ssl.SSLContext]


class CannotUse(Exception):
    """What OpenSSL says of a certificate or its key; `part` of the identity is at fault."""

    def __init__(self, part: str, detail: str) -> None:
        super().__init__(f"{part} {detail}")
        self.part = part
        self.detail = detail


class TlsContexts:
    def __init__(self, contexts_max: int, *, on_evicted: Callable[[], None], make: Make | None = None) -> None:
        self.contexts_max = contexts_max  # may be assigned at any time
        self._on_evicted = on_evicted
        self._make = make or context_of
        self._contexts: OrderedDict[TlsIdentity, ssl.SSLContext] = OrderedDict()  # the one used longest ago first
        self._making = trio.Lock()
        self._threads = trio.CapacityLimiter(1)

    @property
    def count(self) -> int:
        return len(self._contexts)

    async def context(self, identity: TlsIdentity) -> ssl.SSLContext:
        """Raises httpx.ConnectError where none can be made. A kept one is given without a wait."""
        found = self._contexts.get(identity)
        if found is None:
            found = await self._made(identity)
        self._contexts.move_to_end(identity)
        return found

    async def _made(self, identity: TlsIdentity) -> ssl.SSLContext:
        async with self._making:
            found = self._contexts.get(identity)  # somebody else may have made it meanwhile
            if found is None:
                try:
                    found = await trio.to_thread.run_sync(self._make, identity, limiter=self._threads)
                except CannotUse as error:  # it was proved: only a later OpenSSL, or its configuration, sees it so
                    raise httpx.ConnectError(f"TLS: {error}") from None
                except RuntimeError:  # the system gives us no thread
                    raise httpx.ConnectError("TLS: no thread can be started to read certificates") from None
                self._keep(identity, found)
        return found

    def _keep(self, identity: TlsIdentity, context: ssl.SSLContext) -> None:
        self._contexts[identity] = context
        if len(self._contexts) > self.contexts_max:
            while len(self._contexts) > self.contexts_max:
                self._contexts.popitem(last=False)
            self._on_evicted()


def client_ssl_context() -> ssl.SSLContext:
    """certifi's authorities, names verified, TLS 1.2 or later; nothing of it from the environment. Takes 20 ms."""
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def context_of(identity: TlsIdentity) -> ssl.SSLContext:
    """Raises CannotUse."""
    context = client_ssl_context()
    take_identity(context, identity)
    return context


def take_identity(context: ssl.SSLContext, identity: TlsIdentity) -> None:
    """Has the context trust these authorities too, and show this certificate. Raises CannotUse."""
    if identity.ca:
        _take_authorities(context, "ca", identity.ca)
    if identity.client_certificate:
        _take_certificate(context, identity)


def _take_authorities(context: ssl.SSLContext, part: str, pem: str) -> None:
    try:
        with _in_memory(pem) as path:
            context.load_verify_locations(path)
    except ssl.SSLError:
        raise CannotUse(part, "holds no certificate in PEM") from None


def _take_certificate(context: ssl.SSLContext, identity: TlsIdentity) -> None:
    try:
        with _in_memory(f"{identity.client_certificate}\n{identity.client_key}") as path:
            context.load_cert_chain(path, password=_refuse_passphrase)
    except _Encrypted:
        raise CannotUse("client_key", "is encrypted; store it without a passphrase") from None
    except ssl.SSLError as error:
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            raise CannotUse("client_certificate", f"is too weak: {error.reason}") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CannotUse("client_key", "does not belong to client_certificate") from None
        # Which of the two it is, OpenSSL does not say: without this the certificate is, or is not, at fault.
        _take_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "client_certificate", identity.client_certificate)
        raise CannotUse("client_key", "holds no private key in PEM") from None


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A file in no folder and on no disk. OpenSSL reads a file without the interpreter's lock, and a text with it."""
    fd = os.memfd_create("hookd", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(text.encode())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


class _Encrypted(Exception):
    pass


def _refuse_passphrase() -> str:
    raise _Encrypted
