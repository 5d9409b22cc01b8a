"""Owns how the commands talk to a running daemon: JSON over HTTP, with the standard library, which loads fast.

No proxy is used and no redirect followed: `--url` or `HOOKD_URL` names the platform's own daemon. Over https its
certificate must be one that this machine trusts, or `SSL_CERT_FILE`, which OpenSSL reads by itself.
"""

import http.client
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from copy import copy
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from hookd.config.named_file import read_named
from hookd.core.bind import URL_DEFAULT
from hookd.core.printable import printable
from hookd.core.shard import HEADER

TIMEOUT_SECONDS = 30.0
# A daemon's longest is that to a batch, each of whose events is refused with 4 KiB.
ANSWER_BYTES_MAX = 1 << 26
TOKEN_FILE_BYTES_MAX = 65_536
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
LINE_CHARS_MAX = 100
NO_HOOKD = "what answers there is no hookd"


class Unreachable(Exception):
    """No daemon answers there; the message names the URL and the reason."""


class Unreadable(Exception):
    """A file that was named cannot be read."""


class Refusal(Exception):
    """The daemon answers no; the message is its own, and says what may help."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__(answer.problem)
        self.answer = answer


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any
    has_token: bool = False  # whether the question brought one
    url: str = ""  # who was asked

    @property
    def shard(self) -> str | None:
        """Which daemon of several answered."""
        return self.headers.get(HEADER)

    @property
    def date(self) -> float | None:
        """When it was answered, by the clock of whoever did, to the second; None where that is not said."""
        try:
            return parsedate_to_datetime(self.headers.get("date", "")).timestamp()
        except (ValueError, OverflowError):  # the latter of a year, or a zone, beyond any number of C's
            return None

    @property
    def is_hookds(self) -> bool:
        """A refusal of hookd's is a problem; another server's, or a proxy's, is anything."""
        return isinstance(self.body, dict) and (
            self.status < 400 or str(self.body.get("type")).startswith("/problems/")
        )

    def problem_is(self, slug: str) -> bool:
        return self.is_hookds and self.body.get("type") == f"/problems/{slug}"

    @property
    def problem(self) -> str:
        """What a refusal says, for people; another server's page is not shown, a line of plain text is."""
        if not self.is_hookds:
            said = f" ({printable(self._line)})" if self._line else ""
            proxied = ", and a proxy says so whose daemon is down" if self.status in (502, 503, 504) else ""
            return f"{NO_HOOKD}: it says {self.status}, and no problem of hookd's{said}; asked was {self.url}{proxied}"
        slug = str(self.body.get("type", "")).rpartition("/")[2]
        return printable(f"{self.status} {slug}: {self.body.get('detail', '')}{self._advice}")

    @property
    def _line(self) -> str:
        """The first line of an answer in plain text: hookd's own TLS socket answers plain http so."""
        is_plain = self.headers.get("content-type", "text/plain").startswith("text/plain")
        return self.body.partition("\n")[0][:LINE_CHARS_MAX].strip() if is_plain and isinstance(self.body, str) else ""

    @property
    def _advice(self) -> str:
        give = "--token-file FILE or HOOKD_TOKEN_FILE"
        if self.status == 401:
            return f"; the token was refused: give another with {give}" if self.has_token else f"; give one with {give}"
        return f"; another token is given with {give}" if self.status == 403 and self.has_token else ""

    def taken(self, *names: str, statuses: Sequence[int] = (200,)) -> dict[str, Any]:
        """The object that a 200 brought, with these fields. Raises Refusal for another status, Unreachable for what no
        hookd says."""
        if self.status not in statuses:
            raise Refusal(self)
        if not self.is_hookds:
            raise Unreachable(f"{NO_HOOKD}: its answer is no JSON object")
        body: dict[str, Any] = self.body
        if not body.keys() >= set(names):
            raise Unreachable(f"{NO_HOOKD}: its answer lacks {', '.join(sorted(set(names) - body.keys()))}")
        return body


class Remote:
    def __init__(self, url: str, token_file: str | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Raises Unreachable where the URL is none, Unreadable where the token cannot be read."""
        self._token = token_in(token_file) if token_file else None
        self._timeout_seconds = timeout_seconds
        self._point_at(url)

    def _point_at(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._parts = urlsplit(self.url)
            self._port = self._parts.port
        except ValueError as error:
            raise Unreachable(f"{url!r} is no URL: {error}") from error
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise Unreachable(f"{url!r} is no URL of a daemon; write http://HOST:PORT")

    @classmethod
    def named(
        cls,
        url: str | None,
        token_file: str | None,
        environ: Mapping[str, str] = os.environ,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> "Remote":
        """By flag, else by environment. Raises Unreachable or Unreadable."""
        return cls(
            url or environ.get("HOOKD_URL") or URL_DEFAULT,
            token_file or environ.get("HOOKD_TOKEN_FILE"),
            timeout_seconds=timeout_seconds,
        )

    def at_shard(self, name: str) -> "Remote":
        """That daemon of several behind the proxy at this URL."""
        other = copy(self)
        other._point_at(f"{self.url}/shard/{part(name)}")
        return other

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, *, content_type: str = "application/json") -> Answer:
        return self._ask("POST", path, body, {"content-type": content_type})

    def put(self, path: str, body: bytes) -> Answer:
        return self._ask("PUT", path, body, {"content-type": "application/json"})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._port, timeout=self._timeout_seconds)
        try:
            connection.request(method, self._parts.path + path, body, headers)
            response = connection.getresponse()
            content = response.read(ANSWER_BYTES_MAX + 1)
            if len(content) > ANSWER_BYTES_MAX:
                raise Unreachable(f"{NO_HOOKD}: its answer is longer than {ANSWER_BYTES_MAX:,} bytes")
        except ssl.SSLCertVerificationError as error:
            trust = "SSL_CERT_FILE may name a file with the authority that it comes from"
            raise Unreachable(
                f"the certificate of {self.url} is not trusted: {error.verify_message}; {trust}"
            ) from error
        except ssl.SSLError as error:
            plain = (
                "it speaks plain http there; write http://" if error.reason in NO_TLS else str(error.reason or error)
            )
            raise Unreachable(f"no https at {self.url}: {plain}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            raise Unreachable(f"no hookd answers at {self.url}: {reason}") from error
        finally:
            connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        body_of = _decoded(content, names.get("content-type", ""))
        return Answer(response.status, names, body_of, self._token is not None, self.url)


def part(text: str) -> str:
    """As one part of a path."""
    return quote(text, safe="") if text not in ("", ".", "..") else "%20"  # no id: the daemon says that there is none


def _decoded(content: bytes, content_type: str) -> Any:
    if "json" in content_type:
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # some other program's; as text it is shown at least
    return content.decode(errors="replace")


def token_in(file: str, *, waits: bool = True) -> str:
    """Raises Unreadable. With `waits` a pipe is waited for, as long as it takes: `--token-file <(…)`. A process that
    holds its signals could not be ended then."""
    try:
        if waits:
            with Path(file).open() as opened:
                token = opened.read(TOKEN_FILE_BYTES_MAX).strip()
        else:
            token = read_named(Path(file), bytes_max=TOKEN_FILE_BYTES_MAX)[0].decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Unreadable(f"cannot read the token file {file}: {reason}") from error
    if not re.fullmatch(r"[!-~]+", token):
        raise Unreadable(f"the token file {file} holds no token: visible ASCII, no blanks")
    return token
