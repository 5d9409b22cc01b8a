"""The settings: one frozen tree with every default, and what is legal in it.

Owns the defaults, the allowed range of every key (`RULES`), the rules between keys (`conflicts`) and the sums that
`hookd check` prints (`worst_case_bytes`, `warnings`, `horizon_seconds`).

Rules: a field is called like its key in the config file, except that durations name their unit: `timeout` is
`timeout_seconds`, `age_max` is `age_seconds_max`. The range stands beside the default it belongs to.

Does not: read files or the environment (daemon/configuration.py), nor look at the machine: whether a folder can be
written or an address bound is found out by whoever does it.
"""

import enum
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from hookd.core.client import Client
from hookd.core.definition import CONCURRENCY_MAX, DELAY_SECONDS_MAX, SCHEDULE_ENTRIES_MAX, TIMEOUT_SECONDS_MAX
from hookd.core.segment_layout import SegmentLayout, layout
from hookd.core.units import format_duration, format_size

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_DAY_SECONDS = 86400.0


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


class Entries(NamedTuple):
    """How many entries a list may have."""

    least: int
    most: int


Count = Annotated[int, Range(Kind.COUNT, 1, 100_000_000)]
CountOrNone = Annotated[int, Range(Kind.COUNT, 0, 1000)]
Concurrency = Annotated[int, Range(Kind.COUNT, 1, CONCURRENCY_MAX)]
Connections = Annotated[int, Range(Kind.COUNT, 1, 1_000_000)]
Size = Annotated[int, Range(Kind.SIZE, 1, 1024 * _GIB)]
Fraction = Annotated[float, Range(Kind.FRACTION, 0, 1, below=True)]
Timeout = Annotated[float, Range(Kind.DURATION, 0, TIMEOUT_SECONDS_MAX, above=True)]
Delay = Annotated[float, Range(Kind.DURATION, 0, DELAY_SECONDS_MAX)]
Age = Annotated[float, Range(Kind.DURATION, 0, 90 * _DAY_SECONDS, above=True)]
DrainTime = Annotated[float, Range(Kind.DURATION, 0, _DAY_SECONDS)]


# Of tokens: fewer characters could be guessed, more do not come as one header's; each costs 0.5 µs a request.
TOKEN_CHARACTERS_MIN, TOKEN_CHARACTERS_MAX = 16, 1024
TOKENS_MAX = 100


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[http.tokens]]`, its token already read from the file or the environment."""

    name: str
    scope: str  # produce, read or admin
    token: str

    def __repr__(self) -> str:  # settings are printed and logged; a token never is
        return f"TokenSettings(name={self.name!r}, scope={self.scope!r})"


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    bind: Annotated[tuple[str, ...], Entries(1, 50)] = ("127.0.0.1:8080",)
    connections_max: Connections = 1000
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
    secret_overlap_seconds: Age = _DAY_SECONDS


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


class EgressSettings(msgspec.Struct, frozen=True, kw_only=True):
    allow_http: bool = False
    allow_networks: Annotated[tuple[str, ...], Entries(0, 1000)] = ()


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


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    http: HttpSettings = HttpSettings()
    intake: IntakeSettings = IntakeSettings()
    registry: RegistrySettings = RegistrySettings()
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    retention: RetentionSettings = RetentionSettings()
    egress: EgressSettings = EgressSettings()
    drain: DrainSettings = DrainSettings()
    recorder: RecorderSettings = RecorderSettings()
    recovery: RecoverySettings = RecoverySettings()
    clients: tuple[Client, ...] = ()
    dev: bool = False


DEFAULTS = Settings()


class Rule(NamedTuple):
    """What the config file may say under one key, and the field it becomes."""

    field: str
    kind: Kind
    range: Range | None
    entries: Entries | None  # None: a single value

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


def _rules(section: type[msgspec.Struct]) -> dict[str, Rule]:
    hints = get_type_hints(section, include_extras=True)
    return {name.replace("_seconds", ""): _rule(name, hint) for name, hint in hints.items() if name != "tokens"}


def _rule(field: str, hint: Any) -> Rule:
    entries = next((item for item in _metadata(hint) if isinstance(item, Entries)), None)
    if entries is not None:
        hint = get_args(get_args(hint)[0])[0]
    numbers = next((item for item in _metadata(hint) if isinstance(item, Range)), None)
    if numbers is not None:
        return Rule(field, numbers.kind, numbers, entries)
    return Rule(field, {str: Kind.TEXT, bool: Kind.FLAG}[hint], None, entries)


def _metadata(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


# Section -> key as written -> its rule. Everything but `http.tokens` and `clients`, which are tables of their own.
RULES: Mapping[str, Mapping[str, Rule]] = {
    name: _rules(hint)
    for name, hint in get_type_hints(Settings).items()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct)
}


class Bind(NamedTuple):
    """Where to listen: `host` and `port`, or a unix socket's `path`, or an inherited `descriptor`."""

    host: str = ""
    port: int = 0
    path: str = ""
    descriptor: int | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine gets in, as far as the text tells; edge/exposure.py asks the socket again.

        A name other than localhost may point anywhere, so it does not count. Of a unix socket's file the permissions
        say who of this machine; an inherited socket has no text.
        """
        if self.path or self.descriptor is not None or self.host == "localhost":
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return address.is_loopback and getattr(address, "ipv4_mapped", None) is None  # as before Python 3.13


_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def parse_bind(text: str) -> Bind:
    """ValueError says which forms there are."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Bind(path=text.removeprefix("unix:"))
    if found := re.fullmatch(r"fd://([0-9]{1,4})", text):
        return Bind(descriptor=int(found[1]))
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found[3]) > 65535 or (found[1] and not _is_ipv6(found[1])):
        raise ValueError(f'{text!r} is not "HOST:PORT", "[::1]:PORT", "unix:/path" or "fd://N"')
    return Bind(host=found[1] or found[2], port=int(found[3]))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class Conflict(NamedTuple):
    """A mistake that shows only between keys, or inside a text; the first key is the one to name."""

    keys: tuple[str, ...]
    detail: str


def conflicts(settings: Settings) -> Iterator[Conflict]:
    intake, http = settings.intake, settings.http
    if intake.payload_bytes_max > intake.body_bytes_max:
        detail = f"{format_size(intake.payload_bytes_max)} does not fit into intake.body_bytes_max"
        detail += f" ({format_size(intake.body_bytes_max)})"
        yield Conflict(("intake.payload_bytes_max", "intake.body_bytes_max"), detail)
    if bool(http.certificate_file) != bool(http.key_file):
        keys = ("http.certificate_file", "http.key_file")
        yield Conflict(
            keys if http.certificate_file else keys[::-1], "TLS needs both http.certificate_file and http.key_file"
        )
    if not settings.drain.report_directory:
        yield Conflict(("drain.report_directory",), "must name a folder; the report is the only copy of what was left")
    plan = recorder_layout(settings)
    if settings.recorder.directory and settings.recorder.bytes_max < plan.bytes_max_least:
        detail = (
            f"{format_size(settings.recorder.bytes_max)} is too little for events of up to {plan.row_bytes:,} bytes"
        )
        yield Conflict(("recorder.bytes_max",), f"{detail}; at least {format_size(plan.bytes_max_least)}")
    for network in settings.egress.allow_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield Conflict(("egress.allow_networks",), f'{error}; write a network such as "10.1.0.0/16"')
    for text in http.bind:
        try:
            bind = parse_bind(text)
        except ValueError as error:
            yield Conflict(("http.bind",), str(error))
            continue
        if not bind.is_loopback and not http.tokens:
            detail = f"{text} can be reached from other machines and no [[http.tokens]] are configured"
            yield Conflict(("http.bind", "http.tokens"), f"{detail}; bind to 127.0.0.1, or add tokens")


def who_gets_in(settings: Settings) -> list[str]:
    """For people: which addresses take which tokens, one line each."""
    http = settings.http
    lines = [f"access: tokens {', '.join(f'{token.name} ({token.scope})' for token in http.tokens)}"]
    if not http.tokens:
        lines = ["access: no tokens, so only programs on this machine, and no web page"]
    for text in http.bind:
        if parse_bind(text).descriptor is not None:
            lines.append(f"  {text} is judged by its address once it is inherited")
        elif not http.certificate_file and not parse_bind(text).is_loopback:
            lines.append(f"  {text} is plain http: tokens and payloads cross the network as clear text")
    return lines


def recorder_layout(settings: Settings) -> SegmentLayout:
    payload_bytes_max = settings.intake.payload_bytes_max if settings.recorder.payloads else 0
    endpoints_max = settings.registry.endpoints_max
    return layout(settings.recorder.bytes_max, payload_bytes_max=payload_bytes_max, endpoints_max=endpoints_max)


# Estimates, stated here once: the sum is for people who size a machine.
RETAINED_ROW_BYTES = 600  # a settled event with one delivery and its attempts, payload and excerpts apart
SETTLEMENT_BYTES = 140  # both ids at their longest; 58 with ids of 36 and 10 characters
API_CONNECTION_BYTES = 96 * _KIB  # 13 KiB at rest; a head that has not all come; what came behind a request at work
BODY_COPIES = 2  # of one body at a time: its items, and their payloads before the ledger has them
REGISTERED_CLIENT_BYTES = 4 * _KIB  # one endpoint and a few headers, with its idle lane


def worst_case_bytes(settings: Settings) -> dict[str, int]:
    """What each bounded part can take if everything is full at once; the interpreter comes on top."""
    intake, retention, delivery = settings.intake, settings.retention, settings.delivery
    rows = retention.delivered_events_max + retention.exhausted_events_max
    return {
        "unsettled events": intake.unsettled_bytes_max,
        "bodies being received": intake.receiving_bytes_max + BODY_COPIES * intake.body_bytes_max,
        "connections of the API": settings.http.connections_max * API_CONNECTION_BYTES,
        "payloads of delivered events": retention.delivered_bytes_max,
        "payloads of exhausted events": retention.exhausted_bytes_max,
        "rows of settled events": rows * RETAINED_ROW_BYTES,
        "response excerpts": retention.excerpts_bytes_max,
        "settlement feed": retention.settlements_max * SETTLEMENT_BYTES,
        "responses being read": delivery.connections_max * delivery.response_bytes_max,
        "registered clients": settings.registry.clients_max * REGISTERED_CLIENT_BYTES,
        "flight recorder (shared memory)": settings.recorder.bytes_max if settings.recorder.directory else 0,
    }


def horizon_seconds(schedule_seconds: tuple[float, ...], jitter: float) -> tuple[float, float]:
    """Earliest and latest sum of the delays: when the last attempt begins, were each answered at once."""
    total = sum(schedule_seconds)
    return total * (1 - jitter), total * (1 + jitter)


def warnings(settings: Settings) -> list[str]:
    """Legal, and probably not meant; one line each, key first."""
    found = [
        *_schedule_warnings("retry.schedule", settings.retry.schedule_seconds, settings),
        *_timeout_warnings("delivery.timeout", settings.delivery.timeout_seconds, settings),
        *_intake_warnings(settings.intake),
        *_recorder_warnings(settings),
        *_recovery_warnings(settings),
    ]
    for client in settings.clients:
        for endpoint in client.endpoints:
            at = f"clients {client.id} endpoint {endpoint.id}"
            if endpoint.schedule_seconds is not None:
                found += _schedule_warnings(f"{at}: schedule", endpoint.schedule_seconds, settings)
            if endpoint.timeout_seconds is not None:
                found += _timeout_warnings(f"{at}: timeout", endpoint.timeout_seconds, settings)
    return found


def _recovery_warnings(settings: Settings) -> Iterator[str]:
    if not settings.recovery.enabled:
        return
    if not settings.drain.report_payloads:
        yield "recovery.enabled: drain.report_payloads is false, so there is nothing to take back after a stop"
    if not settings.recorder.directory:
        yield "recovery.enabled: the recorder is off, so there is nothing to take back after a kill"
    elif not settings.recorder.payloads:
        yield "recovery.enabled: recorder.payloads is false, so there is nothing to take back after a kill"


def _schedule_warnings(at: str, schedule_seconds: tuple[float, ...], settings: Settings) -> Iterator[str]:
    attempts_max = 1 + len(schedule_seconds)
    if attempts_max < 3:
        noun = "attempt" if attempts_max == 1 else "attempts"
        yield f"{at}: only {attempts_max} {noun} in all; an endpoint that restarts may miss every one"
    latest = horizon_seconds(schedule_seconds, settings.retry.jitter)[1]
    age_seconds_max = settings.retry.age_seconds_max
    if latest > age_seconds_max:
        shown = f"the last attempt may be due after {format_duration(latest)}"
        yield f"{at}: {shown}, but retry.age_max gives up after {format_duration(age_seconds_max)}"


def _timeout_warnings(at: str, timeout_seconds: float, settings: Settings) -> Iterator[str]:
    drain_seconds = settings.drain.timeout_seconds
    if drain_seconds < timeout_seconds:
        shown = f"drain.timeout ({format_duration(drain_seconds)}) is shorter than {format_duration(timeout_seconds)}"
        yield f"{at}: {shown}; a stop may cut attempts that would still have been answered"


def _intake_warnings(intake: IntakeSettings) -> Iterator[str]:
    if intake.client_events_max > intake.unsettled_events_max:
        yield "intake.client_events_max: more than intake.unsettled_events_max; one client can fill the whole budget"
    if intake.client_bytes_max > intake.unsettled_bytes_max:
        yield "intake.client_bytes_max: more than intake.unsettled_bytes_max; one client can fill the whole budget"
    if intake.payload_bytes_max > min(intake.client_bytes_max, intake.unsettled_bytes_max):
        yield "intake.payload_bytes_max: more than a client's or the whole budget; such an event is never admitted"
    if intake.body_bytes_max > intake.receiving_bytes_max:
        yield "intake.body_bytes_max: more than intake.receiving_bytes_max; such a body is never taken"


def _recorder_warnings(settings: Settings) -> Iterator[str]:
    recorder, wanted = settings.recorder, settings.intake.unsettled_events_max
    fit = recorder_layout(settings).events_max(recorder.bytes_max, payload_bytes=0)
    if recorder.directory and not recorder.payloads and fit < wanted:
        shown = f"has room for about {fit:,} unsettled events, fewer than intake.unsettled_events_max ({wanted:,})"
        yield f"recorder.bytes_max: {format_size(recorder.bytes_max)} {shown}; intake answers 503 then"
