"""Reads what must stay secret: the tokens of `[[http.tokens]]`, and the signing secrets of endpoints.

A secret stands in a file (`…_file`) or in a variable of the environment (`…_env`). A relative file name is relative to
the folder of the configuration, or to systemd's credentials where it passes any.

Rules: a token never stands in the configuration itself. No message repeats a token or a secret. A file that everyone
on this machine can read is a warning.
"""

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from hookd.config.findings import Findings, shown
from hookd.config.named_file import read_named
from hookd.config.toml_lines import KeyPath
from hookd.core.ids import is_id
from hookd.core.mistakes import suggestion
from hookd.core.settings import (
    TOKEN_CHARACTERS_MAX,
    TOKEN_CHARACTERS_MIN,
    TOKEN_CLIENTS_MAX,
    TOKENS_MAX,
    TokenSettings,
)

_SCOPES = ("produce", "register", "read", "admin")
_TOKEN = re.compile(rf"[!-~]{{{TOKEN_CHARACTERS_MIN},{TOKEN_CHARACTERS_MAX}}}")
_TOKEN_KEYS = ("name", "scope", "token_file", "token_env", "clients")
_SECRET_FILE_BYTES_MAX = 65_536


class Unreadable(Exception):
    """The message names the file and says why."""


class Credentials:
    """Reads tokens and secrets, and notes each mistake in `findings`."""

    def __init__(self, findings: Findings, environ: Mapping[str, str]) -> None:
        self._findings = findings
        self._environ = environ

    def path(self, name: str) -> Path:
        """The file that the configuration means by `name`."""
        credentials = self._environ.get("CREDENTIALS_DIRECTORY")
        return (Path(credentials) if credentials else self._findings.file.directory) / name

    def tokens(self, raw: object) -> tuple[TokenSettings, ...]:
        if not isinstance(raw, list):
            self._findings.note_in_file(("http", "tokens"), "is a list of tables: write [[http.tokens]]")
            return ()
        if len(raw) > TOKENS_MAX:
            self._findings.note_in_file(("http", "tokens"), f"{len(raw)} tokens; there may be {TOKENS_MAX}")
            return ()
        found: list[TokenSettings] = []
        for index, entry in enumerate(raw):
            at = ("http", "tokens", index)
            token = self.token(at, entry)
            if token is None:
                continue
            if token.name in [other.name for other in found]:
                self._findings.note_in_file((*at, "name"), f'another token is called "{token.name}" already')
                continue
            twin = next((other.name for other in found if token.token and token.token == other.token), None)
            if twin is not None:
                self._findings.note_in_file(at, f'the token is the same as that of "{twin}"; make one for each')
            found.append(token)
        return tuple(found)

    def token(self, at: KeyPath, entry: object) -> TokenSettings | None:
        if not isinstance(entry, dict):
            self._findings.note_in_file(at, "is a table: write [[http.tokens]]")
            return None
        for key in entry:
            if key == "token":
                self._findings.note_in_file(
                    (*at, key), "a token never stands in the file itself; write token_file or token_env"
                )
            elif key not in _TOKEN_KEYS:
                self._findings.note_in_file((*at, key), f"unknown key{suggestion(key, _TOKEN_KEYS)}")
        name, scope = entry.get("name"), entry.get("scope")
        if not is_id(name):
            self._findings.note_in_file((*at, "name"), "must be 1 to 64 of the characters A-Z a-z 0-9 _ -")
        if scope not in _SCOPES:
            self._findings.note_in_file((*at, "scope"), f"must be one of {', '.join(_SCOPES)}")
        token = self.secret(at, entry, ("token_file", "token_env"))
        if token is None:
            if not {"token", "token_file", "token_env"} & entry.keys():
                self._findings.note_in_file(at, "needs token_file or token_env")
        elif not _TOKEN.fullmatch(token):
            shape = f"{TOKEN_CHARACTERS_MIN} to {TOKEN_CHARACTERS_MAX} characters of visible ASCII, no blanks"
            self._findings.note_in_file(at, f"the token must be {shape}; `openssl rand -hex 32` makes one")
        clients = self.held_clients((*at, "clients"), entry.get("clients"))
        return TokenSettings(name=str(name), scope=str(scope), token=token or "", clients=clients)

    def held_clients(self, at: KeyPath, value: object) -> tuple[str, ...]:
        """The clients that a token is held to. An empty list would be a token for nobody, or for all: it is refused."""
        if value is None:
            return ()
        if not isinstance(value, list) or not 1 <= len(value) <= TOKEN_CLIENTS_MAX or not all(map(is_id, value)):
            detail = f"must be a list of 1 to {TOKEN_CLIENTS_MAX:,} client ids; leave it out for a token of all clients"
            self._findings.note_in_file(at, detail)
            return ()
        return tuple(value)

    def secret(
        self, at: KeyPath, entry: Mapping[str, object], known: tuple[str, ...], *, is_secret: bool = True
    ) -> str | None:
        """What a `…_file` or `…_env` leads to. None: neither is there, or a mistake was noted."""
        given = [key for key in known if key in entry]
        if len(given) > 1:
            self._findings.note_in_file((*at, given[1]), f"only one of {', '.join(given)} can be given")
        elif given and given[0].endswith(("_file", "_env")):
            place = entry[given[0]]
            if not isinstance(place, str) or not place:
                kind = "a file" if given[0].endswith("_file") else "a variable of the environment"
                self._findings.note_in_file((*at, given[0]), f"must name {kind}")
            elif given[0].endswith("_env"):
                if not self._environ.get(place, "").strip():
                    self._findings.note_in_file((*at, given[0]), f"{place} is not set in the environment")
                return self._environ.get(place, "").strip() or None
            else:
                return self.secret_in_file((*at, given[0]), place, is_secret=is_secret)
        return None

    def secret_in_file(self, at: KeyPath, place: str, *, is_secret: bool = True) -> str | None:
        """Its text without the white space around it. None: it is empty, or a mistake was noted."""
        try:
            text, warning = self.text_in_file(place, bytes_max=_SECRET_FILE_BYTES_MAX)
        except Unreadable as unreadable:
            self._findings.note_in_file(at, str(unreadable))
            return None
        if not text:
            self._findings.note_in_file(at, f"{self.path(place)} is empty")
        elif warning and is_secret:
            self._findings.warnings.append(f"{shown(at)}: {warning}")
        return text or None

    def text_in_file(self, place: str, *, bytes_max: int) -> tuple[str, str]:
        """The text, and a warning where it is a secret that everyone can read. Raises Unreadable."""
        name = self.path(place)
        try:
            data, found = read_named(name, bytes_max=bytes_max)
            text, everyone_reads = data.decode().strip(), bool(found.st_mode & stat.S_IROTH)
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else "not a readable text file"
            raise Unreadable(f"{name} cannot be read: {reason}") from None
        return text, f"everyone on this machine can read {name}; chmod o= it" if everyone_reads else ""
