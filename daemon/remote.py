"""Owns how the commands talk to a running daemon: JSON over HTTP, by the standard library, since they run for a moment.

No proxy and no redirect is followed: it is the platform's own daemon, named by `--url` or `HOOKD_URL`. Over https it
must have a certificate that this machine trusts, or `SSL_CERT_FILE`, which OpenSSL itself looks at.
"""

import http.client
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

URL_DEFAULT = "http://127.0.0.1:8080"
TIMEOUT_SECONDS = 30.0


class Unreachable(Exception):
    """No daemon answers there; the message names the URL and the reason."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def problem(self) -> str:
        """What a refusal says, for people."""
        if isinstance(self.body, dict) and "detail" in self.body:
            return f"{self.status} {self.body.get('type', '').rpartition('/')[2]}: {self.body['detail']}"
        return f"{self.status}: {self.body!r}"


class Remote:
    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url
        self._token = token

    @classmethod
    def named(cls, url: str | None, token_file: str | None, environ: Mapping[str, str] = os.environ) -> "Remote":
        """By flag, else by environment. Raises Unreachable where the token cannot be read."""
        token_file = token_file or environ.get("HOOKD_TOKEN_FILE")
        try:
            token = Path(token_file).read_text().strip() if token_file else None
        except OSError as error:
            raise Unreachable(f"cannot read the token file {token_file}: {error.strerror}") from error
        return cls(url or environ.get("HOOKD_URL", URL_DEFAULT), token)

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, *, content_type: str = "application/json") -> Answer:
        return self._ask("POST", path, body, {"content-type": content_type})

    def put(self, path: str, body: bytes) -> Answer:
        return self._ask("PUT", path, body, {"content-type": "application/json"})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        parts = urlsplit(self._url)
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except ssl.SSLCertVerificationError as error:
            trust = "SSL_CERT_FILE may name a file with the authority that it comes from"
            raise Unreachable(
                f"the certificate of {self._url} is not trusted: {error.verify_message}; {trust}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no hookd answers at {self._url}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        is_json = "json" in names.get("content-type", "")
        return Answer(response.status, names, msgspec.json.decode(content) if is_json else content.decode())
