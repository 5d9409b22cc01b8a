"""Configuration: what the operator wrote, turned into one frozen `Settings`, or into every mistake at once.

Owns reading the TOML file, the environment (`HOOKD_SECTION__KEY`) and the files secrets stand in, and saying of each
mistake where it is: `FILE:LINE: key: what is wrong`.

Rules: a flag wins over the environment, the environment over the file, the file over the default. Nothing is half
taken: either `load` returns, or it raises with all it found. Unknown keys in the file are mistakes; unknown names in
the environment only warn, since other programs set variables too. No message repeats a secret or a token.

Does not: know the defaults or the ranges (core/settings.py), judge a client's definition (core/client.py), find the
line of a key (toml_lines.py, and its limits), or touch folders and sockets: those prove themselves at start.
"""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from hookd.config.toml_lines import KeyPath, key_lines
from hookd.core.client import Client, ClientRules, InvalidClient, client_from, is_id, suggestion
from hookd.core.settings import (
    DEFAULTS,
    RULES,
    TOKEN_CHARACTERS_MAX,
    TOKEN_CHARACTERS_MIN,
    TOKENS_MAX,
    Conflict,
    Kind,
    Rule,
    Settings,
    TokenSettings,
    conflicts,
    warnings,
)
from hookd.core.units import parse_duration, parse_size

_SCOPES = ("produce", "read", "admin")
_TOKEN = re.compile(rf"[!-~]{{{TOKEN_CHARACTERS_MIN},{TOKEN_CHARACTERS_MAX}}}")
_SECRET_FILE_BYTES_MAX = 65_536


class ConfigurationError(Exception):
    """`lines` are ready to print, in the order of the file."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class Loaded(NamedTuple):
    settings: Settings
    warnings: tuple[str, ...]
    path: str | None


def load(
    path: str | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] = {},
    dev: bool = False,
    new_secret: Callable[[], str],
    prove: Callable[[Settings], Iterable[Conflict]] = lambda _settings: (),
) -> Loaded:
    """Read everything, or raise ConfigurationError. `flags`: key -> value of the field's type; None is not given.

    `prove` looks at what only the machine can tell, such as whether a certificate and its key belong together.
    """
    file = _File.read(path)
    reading = _Reading(file, environ)
    reading.take_file()
    reading.take_environment()
    reading.take_flags(flags)
    if dev:
        reading.values["egress", "allow_http"] = True
    state_directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state_directory and "drain.report_directory" not in reading.origins:
        reading.values["drain", "report_directory"] = f"{state_directory}/reports"
    settings = msgspec.structs.replace(reading.settings(), dev=dev)
    settings = msgspec.structs.replace(settings, clients=_Clients(reading, settings, new_secret).read())
    reading.take_conflicts((*conflicts(settings), *prove(settings)))
    if reading.mistakes:
        raise ConfigurationError(reading.mistake_lines())
    notes = (*reading.warnings, *warnings(settings))
    return Loaded(settings, notes, path)


class _File:
    """A TOML file's content, and the line each of its keys stands on."""

    def __init__(self, name: str, document: dict[str, Any], lines: dict[KeyPath, int]) -> None:
        self.name = name
        self.document = document
        self._lines = lines

    @classmethod
    def read(cls, path: str | None) -> "_File":
        if path is None:
            return cls("", {}, {})
        try:
            text = Path(path).read_bytes().decode()
            document = tomllib.loads(text)
        except OSError as error:
            raise ConfigurationError((f"{path}: cannot be read: {error.strerror or error}",)) from None
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigurationError((f"{path}:{line}: the file is not UTF-8",)) from None
        except (ValueError, RecursionError) as error:  # an over-long number and deep nesting are no TOMLDecodeError
            raise ConfigurationError((_syntax_line(path, error),)) from None
        return cls(path, document, key_lines(text))

    def line(self, path: KeyPath) -> int:
        """The line of the nearest key at or above `path`."""
        return next((self._lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._lines), 1)

    @property
    def directory(self) -> Path:
        return Path(self.name).parent


def _syntax_line(path: str, error: Exception) -> str:
    message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    found = re.search(r" \(at line ([0-9]+), column ([0-9]+)\)$", message)
    if found is None:
        return f"{path}: not TOML: {message}"
    return f"{path}:{found[1]}: not TOML: {message[: found.start()]} (column {found[2]})"


class _Origin(NamedTuple):
    """What stands before a message about a key, and the line it sorts by: what is not in the file comes last."""

    shown: str
    line: int = 2**31


class _Reading:
    """The values gathered so far, each with where it came from, and the mistakes."""

    def __init__(self, file: _File, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.values: dict[tuple[str, str], object] = {}  # (section, field) -> value
        self.origins: dict[str, _Origin] = {}
        self.mistakes: list[tuple[int, str]] = []  # (line, text)
        self.mistaken: set[str] = set()
        self.warnings: list[str] = []

    def note_in_file(self, path: KeyPath, detail: str) -> None:
        line = self.file.line(path)
        self.mistaken.add(_shown(path))
        self.mistakes.append((line, f"{self.file.name}:{line}: {_shown(path)}: {detail}"))

    def note(self, key: str, detail: str) -> None:
        origin = self.origins.get(key, _Origin(key))
        self.mistaken.add(key)
        self.mistakes.append((origin.line, f"{origin.shown}: {detail}"))

    def mistake_lines(self) -> tuple[str, ...]:
        return tuple(text for _, text in sorted(self.mistakes, key=lambda mistake: mistake[0]))

    def take_file(self) -> None:
        for section, table in self.file.document.items():
            if section == "clients":
                continue
            if section not in RULES:
                self.note_in_file((section,), f"unknown section{suggestion(section, (*RULES, 'clients'))}")
            elif not isinstance(table, dict):
                self.note_in_file((section,), f"is a section: write [{section}] and its keys below")
            else:
                for key, raw in table.items():
                    self.take_file_key(section, key, raw)

    def take_file_key(self, section: str, key: str, raw: object) -> None:
        rule = RULES[section].get(key)
        if (section, key) == ("http", "tokens"):
            self.values["http", "tokens"] = self.tokens(raw)
        elif rule is None:
            self.note_in_file((section, key), f"unknown key{suggestion(key, RULES[section])}")
        else:
            line = self.file.line((section, key))
            self.take(section, key, rule, raw, _Origin(f"{self.file.name}:{line}: {section}.{key}", line))

    def take_environment(self) -> None:
        for name, text in sorted(self.environ.items()):
            section, separator, key = name.removeprefix("HOOKD_").lower().partition("__")
            if not name.startswith("HOOKD_") or not separator:
                continue
            rule = RULES.get(section, {}).get(key)
            if rule is None:
                known = [_environment_name(section, key) for section, rules in RULES.items() for key in rules]
                self.warnings.append(f"{name}: no such key, ignored{suggestion(name.upper(), known)}")
            else:
                self.take(section, key, rule, _environment_value(text, rule), _Origin(name))

    def take_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            section, _, key = name.partition(".")
            if value is not None:
                self.take(section, key, RULES[section][key], value, _Origin(name), typed=True)

    def take(self, section: str, key: str, rule: Rule, raw: object, origin: _Origin, *, typed: bool = False) -> None:
        value, details = _converted(rule, raw, typed=typed)
        self.origins[f"{section}.{key}"] = origin
        for detail in details:
            self.note(f"{section}.{key}", detail)
        if not details:
            self.values[section, rule.field] = value

    def take_conflicts(self, found: Iterable[Conflict]) -> None:
        mistaken = frozenset(self.mistaken)  # as it was: one clash must not hide the next of the same key
        for keys, detail in found:
            if mistaken.isdisjoint(keys):
                # Name the key somebody set: the one it clashes with may be a default they never saw.
                key = next((key for key in keys if key in self.origins), keys[0])
                self.note(key, detail if key == keys[0] else f"{keys[0]} {detail}")

    def settings(self) -> Settings:
        sections = {}
        for name in RULES:
            given = {field: value for (section, field), value in self.values.items() if section == name}
            sections[name] = msgspec.structs.replace(getattr(DEFAULTS, name), **given)
        http = sections["http"]
        for field in ("certificate_file", "key_file"):
            if place := getattr(http, field):
                http = msgspec.structs.replace(http, **{field: str(self.place(place))})
        return Settings(**{**sections, "http": http})

    def place(self, name: str) -> Path:
        """A file that is named in the configuration: relative to its folder, or where systemd puts credentials."""
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        return (Path(credentials) if credentials else self.file.directory) / name

    def tokens(self, raw: object) -> tuple[TokenSettings, ...]:
        if not isinstance(raw, list):
            self.note_in_file(("http", "tokens"), "is a list of tables: write [[http.tokens]]")
            return ()
        if len(raw) > TOKENS_MAX:
            self.note_in_file(("http", "tokens"), f"{len(raw)} tokens; there may be {TOKENS_MAX}")
            return ()
        found: list[TokenSettings] = []
        for index, entry in enumerate(raw):
            at = ("http", "tokens", index)
            token = self.token(at, entry)
            if token is None:
                continue
            if token.name in [other.name for other in found]:
                self.note_in_file((*at, "name"), f'another token is called "{token.name}" already')
                continue
            twin = next((other.name for other in found if token.token and token.token == other.token), None)
            if twin is not None:
                self.note_in_file(at, f'the token is the same as that of "{twin}"; make one for each')
            found.append(token)
        return tuple(found)

    def token(self, at: KeyPath, entry: object) -> TokenSettings | None:
        if not isinstance(entry, dict):
            self.note_in_file(at, "is a table: write [[http.tokens]]")
            return None
        known = ("name", "scope", "token_file", "token_env")
        for key in entry:
            if key == "token":
                self.note_in_file((*at, key), "a token never stands in the file itself; write token_file or token_env")
            elif key not in known:
                self.note_in_file((*at, key), f"unknown key{suggestion(key, known)}")
        name, scope = entry.get("name"), entry.get("scope")
        if not is_id(name):
            self.note_in_file((*at, "name"), "must be 1 to 64 of the characters A-Z a-z 0-9 _ -")
        if scope not in _SCOPES:
            self.note_in_file((*at, "scope"), "must be one of produce, read, admin")
        token = self.secret(at, entry, ("token_file", "token_env"))
        if token is None:
            if not {"token", "token_file", "token_env"} & entry.keys():
                self.note_in_file(at, "needs token_file or token_env")
        elif not _TOKEN.fullmatch(token):
            shape = f"{TOKEN_CHARACTERS_MIN} to {TOKEN_CHARACTERS_MAX} characters of visible ASCII, no blanks"
            self.note_in_file(at, f"the token must be {shape}; `openssl rand -hex 32` makes one")
        return TokenSettings(name=str(name), scope=str(scope), token=token or "")

    def secret(self, at: KeyPath, entry: Mapping[str, object], known: tuple[str, ...]) -> str | None:
        """What a `…_file` or `…_env` leads to. None: neither is there, or a mistake was noted."""
        given = [key for key in known if key in entry]
        if len(given) > 1:
            self.note_in_file((*at, given[1]), f"only one of {', '.join(given)} can be given")
        elif given and given[0].endswith(("_file", "_env")):
            place = entry[given[0]]
            if not isinstance(place, str) or not place:
                kind = "a file" if given[0].endswith("_file") else "a variable of the environment"
                self.note_in_file((*at, given[0]), f"must name {kind}")
            elif given[0].endswith("_env"):
                if not self.environ.get(place, "").strip():
                    self.note_in_file((*at, given[0]), f"{place} is not set in the environment")
                return self.environ.get(place, "").strip() or None
            else:
                return self.secret_in_file((*at, given[0]), place)
        return None

    def secret_in_file(self, at: KeyPath, place: str) -> str | None:
        name = self.place(place)
        try:
            with name.open("rb") as opened:
                text = opened.read(_SECRET_FILE_BYTES_MAX).decode().strip()
                everyone_reads = bool(os.fstat(opened.fileno()).st_mode & stat.S_IROTH)
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else "not a readable text file"
            self.note_in_file(at, f"{name} cannot be read: {reason}")
            return None
        if not text:
            self.note_in_file(at, f"{name} is empty")
        elif everyone_reads:
            self.warnings.append(f"{_shown(at)}: everyone on this machine can read {name}; chmod o= it")
        return text or None


class _Clients:
    """Reads `[[clients]]`: the API's definition, with secrets that may stand elsewhere."""

    def __init__(self, reading: _Reading, settings: Settings, new_secret: Callable[[], str]) -> None:
        self.reading = reading
        self.settings = settings
        self.new_secret = new_secret
        self.rules = ClientRules(
            allow_http=settings.egress.allow_http,
            endpoints_max=settings.registry.endpoints_max,
            headers_max=settings.registry.headers_max,
        )

    def read(self) -> tuple[Client, ...]:
        entries = self.reading.file.document.get("clients", [])
        if not isinstance(entries, list):
            self.reading.note_in_file(("clients",), "is a list of tables: write [[clients]]")
            return ()
        if len(entries) > self.settings.registry.clients_max:
            detail = f"{len(entries)} clients, more than registry.clients_max ({self.settings.registry.clients_max})"
            self.reading.note_in_file(("clients",), detail)
            return ()
        seen: dict[str, int] = {}
        clients = [self.client(("clients", index), entry, seen) for index, entry in enumerate(entries)]
        return tuple(client for client in clients if client is not None)

    def client(self, at: tuple[str, int], entry: object, seen: dict[str, int]) -> Client | None:
        if not isinstance(entry, dict):
            self.reading.note_in_file(at, "is a table: write [[clients]]")
            return None
        client_id: Any = entry.get("id")
        if not is_id(client_id):
            detail = "must be 1 to 64 of the characters A-Z a-z 0-9 _ -" if "id" in entry else "a client needs an id"
            self.reading.note_in_file((*at, "id"), detail)
        elif seen.setdefault(client_id, at[1]) != at[1]:
            first = self.reading.file.line(("clients", seen[client_id], "id"))
            self.reading.note_in_file((*at, "id"), f'the client of line {first} is called "{client_id}" already')
        definition = self.with_secrets(at, entry)
        try:
            return client_from(
                definition,
                # A bad id was noted above; the rest of the definition is still worth reading.
                client_id=client_id if is_id(client_id) else "unnamed",
                rules=self.rules,
                new_secret=self.new_secret,
                managed_by_config=True,
            )
        except InvalidClient as error:
            for pointer, detail in error.mistakes:
                self.reading.note_in_file(self.path(at, pointer, entry), detail)
            return None

    def with_secrets(self, at: KeyPath, entry: dict[str, Any]) -> dict[str, Any]:
        """The definition as the API would get it: no id, and `secret` filled in."""
        definition = {key: value for key, value in entry.items() if key != "id"}
        endpoints = definition.get("endpoints")
        if "endpoints" not in definition:
            return self.with_secret(at, definition)
        if isinstance(endpoints, list):
            definition["endpoints"] = [
                self.with_secret((*at, "endpoints", index), endpoint) if isinstance(endpoint, dict) else endpoint
                for index, endpoint in enumerate(endpoints)
            ]
        return definition

    def with_secret(self, at: KeyPath, entry: dict[str, Any]) -> dict[str, Any]:
        plain = {key: value for key, value in entry.items() if key not in ("secret_file", "secret_env")}
        secret = self.reading.secret(at, entry, ("secret", "secret_file", "secret_env"))
        if secret is not None:
            return plain | {"secret": secret}
        # Only url makes it an endpoint: without one the definition's own mistake says more than a missing secret.
        if "url" in entry and not {"secret", "secret_file", "secret_env"} & entry.keys() and not self.settings.dev:
            self.reading.note_in_file(at, "needs secret_file, secret_env or secret (under --dev one is made)")
        return plain

    def path(self, at: KeyPath, pointer: str, entry: dict[str, Any]) -> KeyPath:
        """Where in the file a pointer into the definition leads."""
        path, value = at, cast(Any, entry)
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list):
                path, value = (*path, int(key)), value[int(key)]
                continue
            if key == "secret" and isinstance(value, dict) and key not in value:
                key = "secret_file" if "secret_file" in value else "secret_env"
            path, value = (*path, key), value.get(key) if isinstance(value, dict) else None
        return path


def _shown(path: KeyPath) -> str:
    """clients[0].endpoints[1].url"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _environment_name(section: str, key: str) -> str:
    return f"HOOKD_{section}__{key}".upper()


def _environment_value(text: str, rule: Rule) -> object:
    """The text as a TOML value, else as it stands; for a list, bare entries may be joined by commas."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    # A line break would smuggle a second key in; then it was no value.
    value = parsed["value"] if parsed.keys() == {"value"} else text
    if rule.entries is not None:
        return [entry.strip() for entry in value.split(",") if entry.strip()] if isinstance(value, str) else value
    # A folder may be called 2024 or true.
    return text if rule.kind is Kind.TEXT and not isinstance(value, str) else value


def _converted(rule: Rule, raw: object, *, typed: bool) -> tuple[object, list[str]]:
    """The field's value, and what is wrong with it."""
    if rule.entries is None:
        value, detail = _single(rule, raw, typed=typed)
        return value, [detail] if detail else []
    if isinstance(raw, tuple):
        raw = list(raw)
    if not isinstance(raw, list):
        return None, [f"must be a list such as {_EXAMPLES[rule.kind, True]}"]
    least, most = rule.entries
    if not least <= len(raw) <= most:
        return None, [f"must have {least} to {most} entries, not {len(raw)}"]
    results = [_single(rule, entry, typed=typed) for entry in raw]
    details = [f"entry {number}: {detail}" for number, (_, detail) in enumerate(results, start=1) if detail]
    return tuple(value for value, _ in results), details


_EXAMPLES = {
    (Kind.TEXT, True): '["a", "b"]',
    (Kind.DURATION, True): '["5s", "2m"]',
    (Kind.TEXT, False): 'a string in quotes, such as "text"',
    (Kind.FLAG, False): "true or false",
    (Kind.COUNT, False): "a whole number",
    (Kind.FRACTION, False): "a number such as 0.2",
    (Kind.DURATION, False): 'a duration as a string, such as "15s"',
    (Kind.SIZE, False): 'a size as a string, such as "256KiB"',
}
_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.TEXT: (str,),
    Kind.FLAG: (bool,),
    Kind.COUNT: (int,),
    Kind.FRACTION: (int, float),
    Kind.DURATION: (int, float),
    Kind.SIZE: (int,),
}
_PARSERS: dict[Kind, Callable[[str], float]] = {Kind.DURATION: parse_duration, Kind.SIZE: parse_size}


def _single(rule: Rule, raw: Any, *, typed: bool) -> tuple[Any, str]:
    kind = rule.kind
    value: Any = raw
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if kind in _PARSERS and (isinstance(raw, str) or (is_number and not typed)):
        try:
            # Of a bare number the parser says which unit is missing, with this number in its example.
            value = _PARSERS[kind](raw if isinstance(raw, str) else str(raw)[:12])
        except ValueError as error:
            return None, str(error)
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind is not Kind.FLAG):
        return None, f"must be {_EXAMPLES[kind, False]}"
    if rule.range is None:
        return value, ""
    # The range comes first: a whole number may be too large for a float.
    number = cast(float, value)
    detail = rule.range_mistake(number)
    return (None, detail) if detail else (number if kind in (Kind.COUNT, Kind.SIZE) else float(number), "")
