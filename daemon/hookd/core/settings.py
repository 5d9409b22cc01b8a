"""Owns the settings: one frozen tree with every default, and the legal range of every key (`RULES`).

Rules: a field is called like its key in the config file, except that durations name their unit: `timeout` is
`timeout_seconds`, `age_max` is `age_seconds_max`. The range stands beside the default it belongs to.

core/settings_checks has the rules between keys, core/sizing the sums. config/ reads files and the environment.
"""

import enum
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from hookd.core.client import Client
from hookd.core.client_schema import CONCURRENCY_MAX, DELAY_SECONDS_MAX, SCHEDULE_ENTRIES_MAX, TIMEOUT_SECONDS_MAX
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.units import format_duration, format_size

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_DAY_SECONDS = 86400.0

LOG_LEVELS = ("info", "warning", "error")  # the least first
LOGGED_ATTEMPTS = ("all", "failed", "none")


class Kind(enum.Enum):
    """How a value is written in the config file."""

    TEXT = "text"
    FLAG = "flag"
    COUNT = "count"
    FRACTION = "fraction"
    DURATION = "duration"
    SIZE = "size"


class Range(NamedTuple):
    """The legal numbers of a field. `above` and `below`: the least or the most itself is not one of them."""

    kind: Kind
    least: float
    most: float
    above: bool = False
    below: bool = False


class Choices(NamedTuple):
    """The words that a text may be."""

    words: tuple[str, ...]


class Entries(NamedTuple):
    """How many entries a list may have."""

    least: int
    most: int


Count = Annotated[int, Range(Kind.COUNT, 1, 100_000_000)]
CountOrNone = Annotated[int, Range(Kind.COUNT, 0, 1000)]
Concurrency = Annotated[int, Range(Kind.COUNT, 1, CONCURRENCY_MAX)]
Port = Annotated[int, Range(Kind.COUNT, 1, 65535)]
Connections = Annotated[int, Range(Kind.COUNT, 1, 1_000_000)]
Size = Annotated[int, Range(Kind.SIZE, 1, 1024 * _GIB)]
Fraction = Annotated[float, Range(Kind.FRACTION, 0, 1, below=True)]
Timeout = Annotated[float, Range(Kind.DURATION, 0, TIMEOUT_SECONDS_MAX, above=True)]
Delay = Annotated[float, Range(Kind.DURATION, 0, DELAY_SECONDS_MAX)]
Age = Annotated[float, Range(Kind.DURATION, 0, 90 * _DAY_SECONDS, above=True)]
DrainTime = Annotated[float, Range(Kind.DURATION, 0, _DAY_SECONDS)]
LogLevel = Annotated[str, Choices(LOG_LEVELS)]
LoggedAttempts = Annotated[str, Choices(LOGGED_ATTEMPTS)]


# Of tokens: fewer characters could be guessed, more do not come as one header's; each costs 0.5 µs a request.
TOKEN_CHARACTERS_MIN, TOKEN_CHARACTERS_MAX = 16, 1024
TOKENS_MAX = 100
TOKEN_CLIENTS_MAX = 1000  # of one token; 100 tokens hold 10 MB of ids at most


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[http.tokens]]`, its token already read from the file or the environment."""

    name: str
    scope: str  # produce, register, read or admin
    token: str
    clients: tuple[str, ...] = ()  # held to these; empty: to none, it may speak of all

    def __repr__(self) -> str:  # settings are printed and logged; a token never is
        return f"TokenSettings(name={self.name!r}, scope={self.scope!r}, clients={self.clients!r})"


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    bind: Annotated[tuple[str, ...], Entries(1, 50)] = ("127.0.0.1:8080",)
    connections_max: Connections = 1000
    sending_bytes_max: Size = 64 * _MIB
    certificate_file: str = ""
    key_file: str = ""
    tokens: tuple[TokenSettings, ...] = ()


class IntakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    payload_bytes_max: Size = 256 * _KIB
    body_bytes_max: Size = 16 * _MIB
    receiving_bytes_max: Size = 64 * _MIB
    batch_events_max: Count = 1000
    unsettled_events_max: Count = 100_000
    unsettled_bytes_max: Size = 256 * _MIB
    client_events_max: Count = 20_000
    client_bytes_max: Size = 64 * _MIB


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    clients_max: Count = 20_000
    endpoints_max: Annotated[int, Range(Kind.COUNT, 1, 1000)] = 16
    headers_max: CountOrNone = 20


class DeliverySettings(msgspec.Struct, frozen=True, kw_only=True):
    timeout_seconds: Timeout = 15.0
    concurrency: Concurrency = 8
    connections_max: Connections = 4096
    response_bytes_max: Size = 16 * _KIB
    connection_age_seconds_max: Age = 60.0
    secret_overlap_seconds: Age = _DAY_SECONDS


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    level: LogLevel = "info"
    events: bool = True
    attempts: LoggedAttempts = "all"


class RetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    schedule_seconds: Annotated[tuple[Delay, ...], Entries(0, SCHEDULE_ENTRIES_MAX)] = (5.0, 30.0, 120.0, 600.0, 1800.0)
    jitter: Fraction = 0.2
    age_seconds_max: Age = 3600.0


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    delivered_events_max: Count = 200_000
    delivered_bytes_max: Size = 64 * _MIB
    exhausted_events_max: Count = 50_000
    exhausted_bytes_max: Size = 128 * _MIB
    age_seconds_max: Age = _DAY_SECONDS
    excerpts_bytes_max: Size = 16 * _MIB
    settlements_max: Count = 1_000_000
    notices_max: Count = 5000


class EgressSettings(msgspec.Struct, frozen=True, kw_only=True):
    allow_http: bool = False
    allow_networks: Annotated[tuple[str, ...], Entries(0, 1000)] = ()
    deny_ports: Annotated[tuple[Port, ...], Entries(0, 1000)] = ()
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    proxy: str = ""  # once it is read: without its credentials
    proxy_credentials_file: str = ""
    tls_contexts_max: Annotated[int, Range(Kind.COUNT, 1, 10_000)] = 32
    shared: EndpointEgress | None = None  # what these files hold, and the proxy: for endpoints without their own


class DrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    timeout_seconds: DrainTime = 20.0
    report_directory: str = "reports"
    report_payloads: bool = True
    reports_kept: Count = 20
    termination_log: str = ""


class RecorderSettings(msgspec.Struct, frozen=True, kw_only=True):
    directory: str = "auto"
    bytes_max: Size = 64 * _MIB
    payloads: bool = False


class RecoverySettings(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = False


class OperationsSettings(msgspec.Struct, frozen=True, kw_only=True):
    client: str = ""  # an id


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""  # of this daemon among several; see core/shard


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    http: HttpSettings = HttpSettings()
    intake: IntakeSettings = IntakeSettings()
    registry: RegistrySettings = RegistrySettings()
    delivery: DeliverySettings = DeliverySettings()
    log: LogSettings = LogSettings()
    retry: RetrySettings = RetrySettings()
    retention: RetentionSettings = RetentionSettings()
    egress: EgressSettings = EgressSettings()
    drain: DrainSettings = DrainSettings()
    recorder: RecorderSettings = RecorderSettings()
    recovery: RecoverySettings = RecoverySettings()
    operations: OperationsSettings = OperationsSettings()
    shard: ShardSettings = ShardSettings()
    clients: tuple[Client, ...] = ()
    dev: bool = False


DEFAULTS = Settings()


class Rule(NamedTuple):
    """What the config file may say under one key, and the field it becomes."""

    field: str
    kind: Kind
    range: Range | None
    entries: Entries | None  # None: a single value
    words: tuple[str, ...] = ()  # those that a text may be; none: any

    def range_mistake(self, number: float) -> str:
        """What is wrong with a number (a single one, or one entry of a list), or ""."""
        if self.range is None:
            return ""
        _, least, most, above, below = self.range
        if (number > least or (number == least and not above)) and (number < most or (number == most and not below)):
            return ""
        low = f"more than {self.shown(least)}" if above else f"at least {self.shown(least)}"
        high = f"less than {self.shown(most)}" if below else f"at most {self.shown(most)}"
        return f"must be {low} and {high}"

    def shown(self, number: float) -> str:
        if self.kind is Kind.DURATION:
            return format_duration(number)
        return format_size(int(number)) if self.kind is Kind.SIZE else str(number)


_NO_KEYS = ("tokens", "shared")


def _rules(section: type[msgspec.Struct]) -> dict[str, Rule]:
    hints = get_type_hints(section, include_extras=True)
    return {name.replace("_seconds", ""): _rule(name, hint) for name, hint in hints.items() if name not in _NO_KEYS}


def _rule(field: str, hint: Any) -> Rule:
    entries = next((item for item in _metadata(hint) if isinstance(item, Entries)), None)
    if entries is not None:
        hint = get_args(get_args(hint)[0])[0]
    numbers = next((item for item in _metadata(hint) if isinstance(item, Range)), None)
    choices = next((item for item in _metadata(hint) if isinstance(item, Choices)), None)
    if choices is not None:
        return Rule(field, Kind.TEXT, None, entries, choices.words)
    if numbers is not None:
        return Rule(field, numbers.kind, numbers, entries)
    return Rule(field, {str: Kind.TEXT, bool: Kind.FLAG}[hint], None, entries)


def _metadata(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


# Section -> key as written -> its rule. Not `http.tokens` and `clients`, which are tables of their own.
RULES: Mapping[str, Mapping[str, Rule]] = {
    name: _rules(hint)
    for name, hint in get_type_hints(Settings).items()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct)
}
