"""Owns TLS on the API's addresses: the certificate and its key, and the stream that speaks it.

Rules: TLS 1.2 at least. A certificate is proved before it is used: both files can be read, are PEM, belong together
and are valid now; `BadCertificate` says which key of the configuration is at fault. A renewed one is loaded into a new
context, and only a good one takes the old one's place: to load into the context in use would leave it broken where the
new key does not match. Connections that are open keep the certificate that they began with.

Does not: ask for a passphrase, or for certificates of clients.
"""

import os
import ssl
import stat
from collections.abc import Callable, Iterator

import trio

from hookd.core.settings import Settings
from hookd.core.settings_checks import Conflict
from hookd.core.timestamps import rfc3339

FILE_BYTES_MAX = 1 << 20
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for: the validity is compared by ourselves.
_NO_CHECK_TIME = 0x200000
_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


class BadCertificate(Exception):
    """`key` is the one of the configuration that names the file at fault; `detail` names the file."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail


class Tls:
    """The context that new connections get. `wall` is the time that the validity is held against."""

    def __init__(self, certificate_file: str, key_file: str, *, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.renew(certificate_file, key_file)

    def renew(self, certificate_file: str, key_file: str) -> None:
        """Raises BadCertificate, and then goes on with what it had."""
        self.context, self.expires_at = _proved(certificate_file, key_file, self._wall())


def certificate_conflicts(settings: Settings, wall: float) -> Iterator[Conflict]:
    """What is wrong with the certificate, as a mistake in the configuration."""
    http = settings.http
    if http.certificate_file and http.key_file:
        try:
            _proved(http.certificate_file, http.key_file, wall)
        except BadCertificate as bad:
            yield Conflict((bad.key,), bad.detail)


def server_stream(transport: trio.abc.HalfCloseableStream, context: ssl.SSLContext) -> "TlsStream":
    """TLS over the transport, which stays open when this is closed."""
    return trio.SSLStream(_Beneath(transport), context, server_side=True)


class _Beneath(trio.abc.Stream):
    """The transport as TLS sees it. Trio's SSLStream says goodbye only as it closes what is beneath it; here that ends
    our side alone, so that the rest of what the peer sends can still be read and thrown away."""

    def __init__(self, transport: trio.abc.HalfCloseableStream) -> None:
        self._transport = transport

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._transport.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._transport.send_eof()


TlsStream = trio.SSLStream[_Beneath]


def _proved(certificate_file: str, key_file: str, now: float) -> tuple[ssl.SSLContext, float]:
    """A context with both, and when the certificate expires. Raises BadCertificate."""
    reader = _reader_of(certificate_file)
    _read("http.key_file", key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate_file, key_file, password=_refuse_passphrase)
    except _Encrypted:
        raise BadCertificate("http.key_file", f"the key in {key_file} is encrypted; store it without") from None
    except ssl.SSLError as error:
        if error.reason in _WEAK:
            raise BadCertificate("http.certificate_file", f"{certificate_file} is too weak: {error.reason}") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            detail = f"the key in {key_file} does not belong to the certificate in {certificate_file}"
            raise BadCertificate("http.key_file", detail) from None
        raise BadCertificate("http.key_file", f"{key_file} holds no private key in PEM") from None
    not_before, not_after = _validity(context, reader)
    if now >= not_after:
        raise BadCertificate("http.certificate_file", f"{certificate_file} expired at {rfc3339(not_after)}")
    if now < not_before:
        raise BadCertificate("http.certificate_file", f"{certificate_file} is valid from {rfc3339(not_before)} on")
    return context, not_after


def _reader_of(certificate_file: str) -> ssl.SSLContext:
    """A client's context that takes exactly this certificate: the public way to read one."""
    pem = _read("http.certificate_file", certificate_file)
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reader.check_hostname = False
    reader.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    try:
        reader.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise BadCertificate("http.certificate_file", f"{certificate_file} holds no certificate in PEM") from None
    return reader


def _validity(context: ssl.SSLContext, reader: ssl.SSLContext) -> tuple[float, float]:
    """From when until when, as a peer is told in a handshake, held here in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = reader.wrap_bio(to_client, to_server)
    try:
        for side in (client, server) * 3:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
        told = client.getpeercert() or {}
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason
        raise BadCertificate("http.certificate_file", f"a peer could not use it: {reason}") from None
    return ssl.cert_time_to_seconds(str(told["notBefore"])), ssl.cert_time_to_seconds(str(told["notAfter"]))


def _read(key: str, name: str) -> bytes:
    """Raises BadCertificate, also for a FIFO: OpenSSL opens the file again, and would wait for it."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode) or stat.S_ISCHR(os.fstat(fd).st_mode):
                raise BadCertificate(key, f"{name} is no plain file")
            return os.read(fd, FILE_BYTES_MAX)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadCertificate(key, f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


class _Encrypted(Exception):
    pass


def _refuse_passphrase() -> str:
    raise _Encrypted
