"""What a seed comes to: a value made before anything runs, so that a failing one can be cut down and run again.

Each part is drawn from a source of its own: leaving out one kind of fault or action does not change the others.
"""

import base64
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec
from hookd.core.client import Client, Endpoint
from hookd.core.endpoint_egress import EndpointEgress, Proxy
from hookd.core.record import row_bytes_max
from hookd.core.segment_layout import SegmentLayout
from hookd.core.settings import DEFAULTS, Settings
from hookd.core.units import format_duration

from tests.simulation.ports import PortFault, draw_clock_faults, draw_port_faults

STEADY = "steady"  # a client whose receiver is always well: what others do must not delay it
STEADY_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# Faults that take a while.
LASTING = (
    "black_hole",
    "connects_slowly",
    "dns_hangs",
    "dns_slow",
    "drips_body",
    "drips_head",
    "hangs",
    "never_reads",
    "slow",
)
# In a write: the process is killed at some step of its recorder. Around the report: when it stops, by SIGTERM.
STOPS = {
    "sigterm": 4,
    "sigint": 1,
    "twice": 2,
    "crash": 4,
    "crash in write": 6,
    "crash before report": 1,
    "crash after report": 1,
}
CRASHES = tuple(kind for kind in STOPS if kind.startswith("crash"))
# Answers that count although they are strange, names that move, a family that leads nowhere.
STRANGE = (
    "408",
    "answers_and_hangs_up",
    "blemished",
    "chunked_204",
    "endless",
    "moves",
    "other_family",
    "trails",
)
# What changes what deliveries are granted, by weight: in some seeds, beside the other actions (changes.py).
CHANGES = {
    "reload": 3,
    "put_schedule": 4,
    "put_secret": 3,
    "pause_long": 3,
    "jump_far": 1,
    "get_client": 2,
    "get_metrics": 1,
    "get_event": 4,
    "retry": 2,
}
# Where a port raises: what the daemon says of that is looked at.
# What was delivered or given up is sent again: in some seeds (again.py).
AGAIN = {"redeliver": 4, "replay": 1, "get_event": 1}
LOOKS = {"get_ready": 1, "get_settlements": 3, "get_metrics": 1, "get_status": 1}
AGAIN_WHEN_FULL = {"redeliver": 6, "replay": 2, "get_status": 2, "get_client": 2, "get_event": 1}
# Planned apart, too.
CANCELS_EVERY = 7
CANCELS = {"cancel": 4, "cancel_range": 1, "post": 2, "get_event": 2, "retry": 1}
HOLDS_LONG = "retry_after_long"
DEAD = ("refused", "5xx", "hangs", "black_hole", "dns_fails")  # what a dead endpoint is like
STEADY_HOST = "steady-default-0.test"
OPERATORS_PROXY, OPERATORS_PROXY_ADDRESS = "proxy-of-all.test", "10.1.0.1"
PROXY_PORT, PROXY_USER, PROXY_PASSWORD = 3128, "hookd", "URL-CANARY"
PROXY_FAULTS = (
    "proxy_407",
    "proxy_closes",
    "proxy_down",
    "proxy_garbage",
    "proxy_hangs",
    "proxy_private",
    "proxy_refuses",
)
# Where there are proxies: another way for all, TLS, and looks at what came of it.
WITH_PROXIES = {"reload_proxy": 2, "put": 3, "post": 8, "get_event": 6}


def chance(seed: int, *names: object) -> Random:
    """A source of its own for each actor; the same in every process."""
    return Random("/".join(map(str, (seed, *names))))


@dataclass(frozen=True)
class Weather:
    """From `at` on the endpoint's receiver does one of these, by weight."""

    at: float
    client_id: str
    endpoint_id: str
    faults: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Action:
    at: float
    kind: str
    number: int  # its own source of chance


@dataclass(frozen=True)
class Stop:
    at: float
    kind: str  # one of STOPS
    restart_after: float
    resend: str  # which reports: none, last, all, again (all, twice)
    number: int = 0  # its own source of chance
    starts_killed: tuple[int, ...] = ()  # at which of its steps each start after it is killed, while it accounts
    recovery_ends: tuple[int, str] | None = None  # at which of its looks at files the next run is stopped, and how


@dataclass
class Plan:
    seed: int
    seconds: float  # of the safety phase
    settings: Settings
    clients: dict[str, list[dict[str, Any]]]  # the endpoints' definitions, without url
    latency: dict[tuple[str, str], float]
    kinds: tuple[str, ...]  # of faults that may occur
    weather: list[Weather] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    capacity: int = 65536  # bytes that a link holds
    core: tuple[tuple[str, str], ...] = ()
    payload_bytes: tuple[int, ...] = (20,)
    retention_is_tiny: bool = False
    layout: SegmentLayout | None = None  # the recorder's; None where it is off
    segments_max: int = 1_000_000  # that its file system has room for
    look_seconds: float = 0.0  # that each look at a file takes before a run has answered for the first time
    full: list[tuple[float, float]] = field(default_factory=list)  # when the report directory takes nothing
    port_faults: tuple[PortFault, ...] = ()
    has_expiries: bool = False
    proxy_faults: tuple[tuple[str, int], ...] = ()  # by weight, "ok" among them; none: there are no proxies

    def knobs(self) -> str:
        given = self.settings
        parts = {
            "seconds": round(self.seconds),
            "clients": {name: [one["id"] for one in endpoints] for name, endpoints in self.clients.items()},
            "schedule": given.retry.schedule_seconds,
            "age_max": given.retry.age_seconds_max,
            "timeout": given.delivery.timeout_seconds,
            "concurrency": given.delivery.concurrency,
            "connections_max": given.delivery.connections_max,
            "unsettled_events_max": given.intake.unsettled_events_max,
            "unsettled_bytes_max": given.intake.unsettled_bytes_max,
            "client_events_max": given.intake.client_events_max,
            "drain": given.drain.timeout_seconds,
            "capacity": self.capacity,
            "faults": self.kinds,
            "actions": len(self.actions),
            "stops": [
                (round(one.at), one.kind, one.resend, one.starts_killed, one.recovery_ends) for one in self.stops
            ],
            "recorder": "off" if self.layout is None else (self.layout, self.segments_max),
            "recorder payloads": given.recorder.payloads,
            "reports_kept": given.drain.reports_kept,
            "reports full": self.full,
            "a look at files takes": self.look_seconds,
            "recovery": given.recovery.enabled,
            "operations": given.operations.client,
            "proxies": self.proxy_faults,
            "port faults": [(one.run, one.port, one.call, one.nths, one.late) for one in self.port_faults],
            "core": self.core,
        }
        return "\n".join(f"  {name:20} {value}" for name, value in parts.items())


def make_plan(
    seed: int,
    *,
    faults: tuple[str, ...],
    actions: dict[str, int],
    without: frozenset[str] = frozenset(),
    until: float | None = None,
    seconds: float | None = None,
) -> Plan:
    """`faults` are the kinds of faults there are, `actions` the kinds of actions with their weights."""
    draw = chance(seed, "knobs")
    long = draw.choice((20.0, 60.0, 120.0, 240.0, 600.0))
    seconds = chance(seed, "seconds").choice((10.0, 20.0, 20.0, 20.0, 40.0, 60.0, long)) if seconds is None else seconds
    clients = _clients(draw)
    planned_apart = (*STRANGE, HOLDS_LONG)
    kinds = tuple(kind for kind in faults if kind not in planned_apart and draw.random() < draw.choice((0.2, 0.4, 0.8)))
    plan = Plan(
        seed=seed,
        seconds=seconds,
        settings=_settings(draw),
        clients=clients,
        latency={(name, one["id"]): draw.choice((0.0, 0.01, 0.05, 0.3)) for name, of in clients.items() for one in of},
        kinds=tuple(kind for kind in kinds if kind not in without),
        capacity=draw.choice((65536, 65536, 65536, 4096, 300)),
        payload_bytes=draw.choice(((20,), (2, 20, 200), (20, 3000), (20, 17_000, 40_000))),
    )
    _set_recorder(chance(seed, "recorder"), plan)
    slow = chance(seed, "slow files")
    plan.look_seconds = slow.choice((0.5, 2.0)) if slow.random() < 0.1 and "slow files" not in without else 0.0
    plan.full = _full(chance(seed, "full"), seconds, without)
    plan.retention_is_tiny = plan.settings.retention.delivered_events_max < 1000
    plan.weather = _weather(chance(seed, "weather"), clients, kinds, seconds, without)
    _estrange(chance(seed, "strange"), plan, tuple(kind for kind in STRANGE if kind in faults), without)
    if "overtaken" not in without:
        _overtake(chance(seed, "overtaken"), plan)
    plan.actions = _actions(chance(seed, "actions"), actions, seconds, without)
    plan.stops = _stops(chance(seed, "stops"), seconds, without)
    if {"recovery ends", "start killed", "crash"}.isdisjoint(without):
        _suspect(chance(seed, "suspect"), plan)
    _change(chance(seed, "changes"), plan, without)
    if "pause_long" not in without:
        _pause_in_flight(chance(seed, "too old in flight"), plan)
    _let_ports_raise(chance(seed, "ports"), plan, without)
    if is_late(seed) and "declare" not in without:
        _declare(chance(seed, "declarations"), plan)
    if seed % 7 == 6 and "operations" not in without:  # whose receivers are as bad as any
        operations = msgspec.structs.replace(plan.settings.operations, client=next(iter(clients)))
        plan.settings = msgspec.structs.replace(plan.settings, operations=operations)
    plan.port_faults += draw_clock_faults(chance(seed, "the clock"), without)
    if seed % CANCELS_EVERY == CANCELS_EVERY - 1:
        _cancel(chance(seed, "cancels"), plan, without)
    if sends_again(seed):
        _send_again(chance(seed, "again"), plan, without)
    if fills_up(seed) and "full again" not in without:
        _send_again_when_full(chance(seed, "full again"), plan, without)
    if has_proxies(seed):
        _go_through_proxies(chance(seed, "proxies"), plan, without)
    endpoints = [(name, one["id"]) for name, of in clients.items() for one in of]
    plan.core = tuple(sorted(chance(seed, "core").sample(endpoints, k=draw.randint(1, len(endpoints)))))
    if until is not None:
        plan.seconds = min(plan.seconds, until)
        plan.weather = [one for one in plan.weather if one.at < until]
        plan.actions = [one for one in plan.actions if one.at < until]
        plan.stops = [one for one in plan.stops if one.at < until]
    return plan


def _set_recorder(draw: Random, plan: Plan) -> None:
    """Segments that hold a handful of rows, so that they are carried and dropped all the time, or production's."""
    replace, given = msgspec.structs.replace, plan.settings
    is_on, payloads = draw.random() < 0.75, draw.random() < 0.5
    plan.settings = replace(
        given,
        recorder=replace(given.recorder, directory="auto" if is_on else "", payloads=payloads),
        drain=replace(given.drain, reports_kept=draw.choice((1, 2, 20))),
    )
    row_bytes = row_bytes_max(max(plan.payload_bytes) + 60 if payloads else 0, ["x" * 40] * 4)
    small = SegmentLayout(row_bytes, draw.choice((2, 2, 4)) * row_bytes, draw.choice((8, 10, 20)))
    large = SegmentLayout(100_000, 400_000, 64)
    chosen = draw.choice((small, small, large))
    if draw.random() < 0.5:
        plan.settings = replace(plan.settings, recovery=replace(given.recovery, enabled=True))
    plan.segments_max = draw.choice((6, 7, 1_000_000, 1_000_000, 1_000_000))
    plan.layout = chosen if is_on else None


def _full(draw: Random, seconds: float, without: frozenset[str]) -> list[tuple[float, float]]:
    at, lasts = draw.uniform(0, seconds), draw.choice((1.0, 30.0, 300.0))
    return [(at, at + lasts)] if draw.random() < 0.15 and "full" not in without else []


def _suspect(draw: Random, plan: Plan) -> None:
    """Something is in flight at each of several crashes in a row, and every start takes it back."""
    if draw.random() > 0.04:
        return
    client_id, endpoints = next(iter(plan.clients.items()))
    faults = (("hangs", 1),)
    plan.weather = [one for one in plan.weather if one.client_id != client_id]
    plan.weather += [Weather(0.0, client_id, one["id"], faults) for one in endpoints]
    _take_back_all(plan)
    at = draw.uniform(1, plan.seconds / 2)
    plan.actions += [Action(at - 1 + n / 20, "post", 1000 + n) for n in range(12)]
    plan.stops = []
    for number in range(draw.choice((3, 3, 4))):
        plan.stops.append(Stop(at, "crash", 0.5, "none", number))
        at += 0.5 + draw.uniform(0.2, 0.9)
    plan.stops.append(Stop(at + 1, "sigterm", 0.5, "none", 9))


def _clients(draw: Random) -> dict[str, list[dict[str, Any]]]:
    clients = {}
    for number in range(draw.choice((1, 1, 2, 3, 4))):
        count = draw.choice((1, 1, 2, 3))
        clients[f"c{number}"] = [definition(draw, f"e{index}" if count > 1 else "default") for index in range(count)]
    return clients


def definition(draw: Random, endpoint_id: str) -> dict[str, Any]:
    """An endpoint as the platform would PUT it, without its url."""
    one: dict[str, Any] = {"id": endpoint_id}
    if draw.random() < 0.3:
        one["event_types"] = draw.choice((["a.*"], ["a.x", "*y", "!b*"], ["nothing.of.it"]))
    if draw.random() < 0.3:
        one["concurrency"] = draw.choice((1, 2, 5))
    if draw.random() < 0.3:
        one["timeout"] = draw.choice(("1s", "3s", "8s"))
    if draw.random() < 0.3:
        one["schedule"] = draw.choice(([], ["1s"], ["0s", "2s"], ["3s", "10s", "20s"]))
    return one


def traits(seed: int, client_id: str, endpoint_id: str) -> dict[str, Any]:
    """What an endpoint has from its first PUT to the last, in one seed of three: so what holds is never in doubt."""
    draw, found = chance(seed, "traits", client_id, endpoint_id), dict[str, Any]()
    if client_id == STEADY:
        return found
    if is_late(seed) and chance(seed, "traces", client_id, endpoint_id).random() < 0.5:
        found["trace_context"] = True
    if has_proxies(seed):
        way, credentials = chance(seed, "way", client_id, endpoint_id).random(), f"{PROXY_USER}:{PROXY_PASSWORD}"
        if way < 0.4:
            name = f"proxy-of-{client_id}-{endpoint_id.lower()}.test"
            found["proxy"] = f"http://{credentials}@{name}:{PROXY_PORT}"
        elif way < 0.6:
            found["proxy"] = ""
    if seed % 3 != 2:
        return found
    if draw.random() < 0.4:
        found["order"] = "strict"
    if draw.random() < 0.3:
        found["rate"] = draw.choice(("1/s", "3/s", "40/m"))
    if draw.random() < 0.3:
        found["give_up_on"] = draw.choice(([400, 404], ["4xx"], ["3xx", 503]))
    return found


def _settings(draw: Random) -> Settings:
    replace = msgspec.structs.replace
    steady = Endpoint(
        id="default", url=f"http://{STEADY_HOST}/hook?token=URL-CANARY", secret=STEADY_SECRET, concurrency=3
    )
    schedule = draw.choice(
        ((1.0, 2.0), (0.5, 1.0, 2.0, 4.0), (5.0, 30.0), (0.0, 0.0, 1.0), (10.0, 20.0, 40.0), (5.0, 30.0, 120.0))
    )
    tiny = draw.random() < 0.15
    return replace(
        DEFAULTS,
        clients=(Client(id=STEADY, endpoints=(steady,), managed_by_config=True),),
        egress=replace(DEFAULTS.egress, allow_http=True),
        intake=replace(
            DEFAULTS.intake,
            payload_bytes_max=50_000,
            body_bytes_max=200_000,
            batch_events_max=20,
            unsettled_events_max=draw.choice((100_000, 100_000, 60, 25)),
            unsettled_bytes_max=draw.choice((1 << 28, 1 << 28, 300_000)),
            client_events_max=draw.choice((20_000, 30, 10)),
        ),
        delivery=replace(
            DEFAULTS.delivery,
            timeout_seconds=draw.choice((1.0, 4.0, 15.0)),
            concurrency=draw.choice((1, 2, 4, 8)),
            connections_max=draw.choice((4096, 4096, 4096, 8)),
            secret_overlap_seconds=draw.choice((20.0, 86400.0)),
        ),
        retry=replace(
            DEFAULTS.retry,
            schedule_seconds=schedule,
            jitter=draw.choice((0.0, 0.2, 0.5)),
            age_seconds_max=draw.choice((3600.0, 3600.0, 60.0, 20.0)),
        ),
        retention=replace(
            DEFAULTS.retention,
            delivered_events_max=3 if tiny else 200_000,
            exhausted_events_max=3 if tiny else 50_000,
        ),
        # An answer says where the reports are: the same wherever the tree stands.
        drain=replace(DEFAULTS.drain, timeout_seconds=draw.choice((0.0, 1.0, 5.0, 20.0)), report_directory="/reports"),
    )


def _weather(
    draw: Random,
    clients: dict[str, list[dict[str, Any]]],
    kinds: tuple[str, ...],
    seconds: float,
    without: frozenset[str],
) -> list[Weather]:
    """Spells of each endpoint: well, or up to three kinds of trouble beside being well. All that is drawn is drawn
    before anything is left out."""
    found = []
    for client_id, endpoints in clients.items():
        for endpoint in endpoints:
            at = 0.0
            dead = draw.choice(DEAD)
            if draw.random() < 0.25:  # from the start to the end: long enough to be paused for it
                found.append(Weather(0.0, client_id, endpoint["id"], ((dead if dead not in without else "ok", 1),)))
                continue
            while at < seconds:
                faults = [("ok", draw.choice((0, 1, 4)))]
                faults += [
                    (kind, draw.randint(1, 4)) for kind in draw.sample(kinds, k=min(len(kinds), draw.randint(0, 3)))
                ]
                kept = tuple((kind, weight) for kind, weight in faults if weight and kind not in without)
                found.append(Weather(at, client_id, endpoint["id"], kept or (("ok", 1),)))
                at += draw.expovariate(1 / draw.choice((5.0, 30.0, 120.0)))
    return sorted(found, key=lambda one: one.at)


def _estrange(draw: Random, plan: Plan, kinds: tuple[str, ...], without: frozenset[str]) -> None:
    """In some seeds spells have strange troubles too, and connections are kept for a short while only."""
    if not kinds or draw.random() < 0.5:
        return
    age_seconds = draw.choice((1.0, 5.0, 20.0, 60.0))
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(given, delivery=replace(given.delivery, connection_age_seconds_max=age_seconds))
    found = []
    for one in plan.weather:
        more = [(kind, draw.randint(1, 4)) for kind in draw.sample(kinds, k=draw.choice((0, 1, 2)))]
        faults = (*one.faults, *((kind, weight) for kind, weight in more if kind not in without))
        found.append(Weather(one.at, one.client_id, one.endpoint_id, faults))
    plan.weather = found
    plan.kinds += tuple(sorted({kind for one in found for kind, _ in one.faults if kind in STRANGE}))


def _overtake(draw: Random, plan: Plan) -> None:
    """Now and then a spell of one trouble that lasts, while another attempt of the endpoint may be answered 410, and
    concurrency and timeout leave room for both.
    """
    if draw.random() > 0.1:
        return
    kind = draw.choice(LASTING)
    plan.weather = [
        Weather(one.at, one.client_id, one.endpoint_id, ((kind, 5), ("410", 1))) if draw.random() < 0.5 else one
        for one in plan.weather
    ]
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(
        given,
        delivery=replace(given.delivery, timeout_seconds=draw.choice((1.0, 4.0, 15.0)), concurrency=4),
        retry=replace(given.retry, age_seconds_max=draw.choice((20.0, 3600.0))),
    )


def _change(draw: Random, plan: Plan, without: frozenset[str]) -> None:
    """In some seeds what is granted changes all the time: settings, schedules, secrets, pauses, clocks.

    And some answers ask to wait for an hour. All that is drawn is drawn before anything is left out.
    """
    if draw.random() < 0.5:
        return
    replace, given = msgspec.structs.replace, plan.settings
    age_seconds_max = draw.choice((20.0, 20.0, 60.0, 3600.0))
    plan.settings = replace(given, retry=replace(given.retry, age_seconds_max=age_seconds_max))
    found = []
    for one in plan.weather:
        is_held = draw.random() < 0.2 and HOLDS_LONG not in without
        faults = (*one.faults, (HOLDS_LONG, 1)) if is_held else one.faults
        found.append(Weather(one.at, one.client_id, one.endpoint_id, faults))
    plan.weather = found
    if any(kind == HOLDS_LONG for one in found for kind, _ in one.faults):
        plan.kinds += (HOLDS_LONG,)
    chosen = {kind: weight for kind, weight in CHANGES.items() if draw.random() < 0.7} or CHANGES
    at, rate = 0.0, draw.choice((0.2, 0.5, 1.0))
    for number in range(2000, 2060):
        at += draw.expovariate(rate)
        kind = draw.choices(list(chosen), list(chosen.values()))[0]
        if at < plan.seconds and kind not in without:
            plan.actions.append(Action(at, kind, number))


def _pause_in_flight(draw: Random, plan: Plan) -> None:
    """Now and then an operator pauses what is in flight just when it has become too old to be attempted again."""
    if draw.random() > 0.04:
        return
    client_id, endpoints = next(iter(plan.clients.items()))
    plan.clients[client_id] = [{"id": one["id"]} for one in endpoints[:1]]
    plan.weather = [one for one in plan.weather if one.client_id != client_id]
    plan.weather.append(Weather(0.0, client_id, endpoints[0]["id"], (("hangs", 1),)))
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(
        given,
        delivery=replace(given.delivery, timeout_seconds=15.0),
        retry=replace(given.retry, age_seconds_max=20.0, schedule_seconds=(1.0,) * 4),
    )
    at = draw.uniform(1, 3)
    plan.seconds, plan.stops = max(plan.seconds, 60.0), []
    plan.actions = [Action(at + n / 10, "post", 3000 + n) for n in range(12)]
    plan.actions += [Action(at + 21 + n, "pause_long", 3100 + n) for n in range(4)]


def _let_ports_raise(draw: Random, plan: Plan, without: frozenset[str]) -> None:
    """In some seeds. Most of those have a recorder, many are killed, and it is looked at what the daemon says of it."""
    plan.port_faults = draw_port_faults(draw, without)
    if not plan.port_faults:
        return
    replace, given = msgspec.structs.replace, plan.settings
    if plan.layout is None and draw.random() < 0.8:
        plan.settings = replace(given, recorder=replace(given.recorder, directory="auto"))
        plan.layout = SegmentLayout(100_000, 400_000, 64)
    at, resend = draw.uniform(0, plan.seconds), draw.choice(("none", "last"))
    if draw.random() < 0.6 and "crash" not in without:
        plan.stops.append(Stop(at, "crash", 1.0, resend, 4000))
    at = 0.0
    for number in range(4000, 4060):
        at += draw.expovariate(0.5)
        kind = draw.choices(list(LOOKS), list(LOOKS.values()))[0]
        if at < plan.seconds and kind not in without:
            plan.actions.append(Action(at, kind, number))


def is_late(seed: int) -> bool:
    """One seed of nine, of those after which the first mutants were looked for: what was thought of later is there."""
    return seed % 9 == 4 and seed > 13


def _declare(draw: Random, plan: Plan) -> None:
    """The platform declares its whole registry now and then: declaring.py."""
    at, rate = 0.0, draw.choice((0.1, 0.5))
    for number in range(5000, 5040):
        at += draw.expovariate(rate)
        if at < plan.seconds:
            plan.actions.append(Action(at, "declare", number))


def _cancel(draw: Random, plan: Plan, without: frozenset[str]) -> None:
    """In one seed of seven operators cancel, and events expire. There the wall clock is not set, and no port raises: an
    expiry has one moment, and what an answer says is so."""
    plan.has_expiries = draw.random() < 0.7
    plan.port_faults = ()
    plan.actions = [one for one in plan.actions if not one.kind.startswith("jump")]
    at, rate = 0.0, draw.choice((0.3, 1.0, 2.0))
    for number in range(5000, 5080):
        at += draw.expovariate(rate)
        kind = draw.choices(list(CANCELS), list(CANCELS.values()))[0]
        if at < plan.seconds and kind not in without:
            plan.actions.append(Action(at, kind, number))
    if draw.random() < 0.4 and {"crash", "cancel"}.isdisjoint(without):
        _kill_after_cancels(draw, plan)


def _kill_after_cancels(draw: Random, plan: Plan) -> None:
    """What is in flight is cancelled, and the process is killed; the next start takes back what is left."""
    client_id, endpoints = next(iter(plan.clients.items()))
    plan.weather = [one for one in plan.weather if one.client_id != client_id]
    plan.weather += [Weather(0.0, client_id, one["id"], (("hangs", 1),)) for one in endpoints]
    _take_back_all(plan)
    at = draw.uniform(2, max(3.0, plan.seconds / 2))
    plan.actions += [Action(at - 1 + n / 20, "post", 6000 + n) for n in range(12)]
    plan.actions += [Action(at + n / 20, "cancel", 6100 + n) for n in range(8)]
    plan.stops = [Stop(at + 0.5, "crash", 0.5, "none", 6200)]


def _take_back_all(plan: Plan) -> None:
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(
        given,
        recorder=replace(given.recorder, directory="auto", payloads=True),
        recovery=replace(given.recovery, enabled=True),
    )
    plan.layout, plan.full = SegmentLayout(100_000, 400_000, 64), []


def sends_again(seed: int) -> bool:
    """Two seeds of nine, as `is_late` has it."""
    return seed % 9 in (1, 7) and seed > 13


def _send_again(draw: Random, plan: Plan, without: frozenset[str]) -> None:
    """What was delivered, given up or waits is sent again: again.py."""
    at, rate = 0.0, draw.choice((0.2, 1.0))
    for number in range(6000, 6060):
        at += draw.expovariate(rate)
        kind = draw.choices(list(AGAIN), list(AGAIN.values()))[0]
        if at < plan.seconds and kind not in without:
            plan.actions.append(Action(at, kind, number))


def has_proxies(seed: int) -> bool:
    """One seed of thirteen, as `is_late` has it."""
    return seed % 13 == 10 and seed > 13


def _go_through_proxies(draw: Random, plan: Plan, without: frozenset[str]) -> None:
    """Of endpoints, and in most of these seeds one of `[egress]`, which a reload may take away or bring back."""
    chosen = draw.sample(PROXY_FAULTS, k=draw.choice((0, 2, 4, len(PROXY_FAULTS))))
    weights = [(kind, draw.randint(1, 3)) for kind in chosen]
    plan.proxy_faults = (("ok", draw.choice((3, 12))), *(one for one in weights if one[0] not in without))
    if draw.random() < 0.7:
        egress = msgspec.structs.replace(plan.settings.egress, shared=shared_proxy())
        plan.settings = msgspec.structs.replace(plan.settings, egress=egress)
    at, rate = 0.0, draw.choice((0.3, 1.0))
    for number in range(8000, 8060):
        at += draw.expovariate(rate)
        kind = draw.choices(list(WITH_PROXIES), list(WITH_PROXIES.values()))[0]
        if at < plan.seconds and kind not in without:
            plan.actions.append(Action(at, kind, number))


def shared_proxy() -> EndpointEgress:
    """As `[egress]` names it: the operator's, at a private address."""
    credentials = f"{PROXY_USER}:{PROXY_PASSWORD}"
    return EndpointEgress(proxy=Proxy(OPERATORS_PROXY, PROXY_PORT, credentials, is_judged=False))


def fills_up(seed: int) -> bool:
    return sends_again(seed) and seed % 4 == 0 and seed > 27


def _send_again_when_full(draw: Random, plan: Plan, without: frozenset[str]) -> None:
    """What one client was delivered is sent again when its budget, or the daemon's, is full of what failed since; or
    when its only endpoint is disabled.
    """
    client_id, endpoints = next(iter(plan.clients.items()))
    endpoint_id, at = endpoints[0]["id"], draw.uniform(3, 6)
    trouble, events_max = draw.choice(("hangs", "5xx", "refused", "410")), draw.choice((8, 12))
    is_of_client, replace, given = draw.random() < 0.5, msgspec.structs.replace, plan.settings
    plan.clients.clear()
    plan.clients[client_id] = [{"id": endpoint_id}]
    plan.weather = [
        Weather(0.0, client_id, endpoint_id, (("ok", 1),)),
        Weather(at, client_id, endpoint_id, ((trouble, 1),)),
    ]
    plan.settings = replace(
        given,
        intake=replace(
            given.intake,
            unsettled_events_max=100_000 if is_of_client else events_max,
            unsettled_bytes_max=1 << 28,
            client_events_max=events_max if is_of_client else 20_000,
        ),
        retry=replace(given.retry, schedule_seconds=(30.0, 60.0), age_seconds_max=3600.0),
        retention=DEFAULTS.retention,
    )
    plan.layout = None if plan.layout is None else SegmentLayout(100_000, 400_000, 64)
    plan.retention_is_tiny, plan.segments_max = False, 1_000_000
    plan.stops, plan.port_faults, plan.full, plan.seconds = [], (), [], max(plan.seconds, 40.0)
    plan.actions = [Action(0.5 + number / 10, "post", 7000 + number) for number in range(10)]
    plan.actions += [Action(at + number / 10, "post", 7100 + number) for number in range(20)]
    kinds = draw.choices(list(AGAIN_WHEN_FULL), list(AGAIN_WHEN_FULL.values()), k=30)
    plan.actions += [Action(at + 3 + number, kind, 7200 + number) for number, kind in enumerate(kinds)]
    plan.actions = [one for one in plan.actions if one.kind not in without]


def new_secret(draw: Random) -> str:
    return "whsec_" + base64.b64encode(draw.randbytes(24)).decode()


def _actions(draw: Random, weights: dict[str, int], seconds: float, without: frozenset[str]) -> list[Action]:
    """A swarm: each seed leaves out some kinds, and has a rate of its own."""
    known = {kind: weight for kind, weight in weights.items() if weight}
    chosen = {kind: weight for kind, weight in known.items() if kind.startswith("post") or draw.random() < 0.7}
    rate = draw.choice((0.3, 1.0, 3.0))
    found = []
    at = 0.0
    for number in range(150):
        at += draw.expovariate(rate)
        if at >= seconds:
            break
        kind = draw.choices(list(chosen), list(chosen.values()))[0]
        if kind not in without:
            found.append(Action(at, kind, number))
    return found


def _stops(draw: Random, seconds: float, without: frozenset[str]) -> list[Stop]:
    """Now and then several in a row, hardly apart; and crashes in a row, whatever is in flight, before a clean stop."""
    found = []
    at = draw.uniform(0, seconds)
    in_a_row = draw.choice((2, 3, 3, 4)) if draw.random() < 0.15 else 0
    for number in range(in_a_row + draw.choice((0, 0, 1, 1, 2, 3, 5)) + (in_a_row > 0)):
        stop = _stop(draw, number, at, is_crash=number < in_a_row)
        found.append(stop)
        if number < in_a_row:
            at = stop.at + stop.restart_after + draw.uniform(0.2, 2.0)
        else:
            at = draw.uniform(0, seconds) if draw.random() < 0.6 else at + draw.choice((0.5, 3.0, 15.0))
    if "start killed" in without:
        found = [replace(stop, starts_killed=()) for stop in found]
    if "recovery ends" in without:
        found = [replace(stop, recovery_ends=None) for stop in found]
    found = [stop for stop in found if stop.kind not in without and stop.at < seconds]
    return sorted(found, key=lambda stop: stop.at)


def _stop(draw: Random, number: int, at: float, *, is_crash: bool) -> Stop:
    kind = draw.choices(list(STOPS), list(STOPS.values()))[0]
    resend = draw.choice(("none", "last", "last", "all", "again"))
    if is_crash:
        return Stop(at, draw.choice(("crash", "crash", "crash in write")), draw.choice((0.001, 1.0)), "none", number)
    return Stop(
        at,
        kind,
        draw.choice((0.001, 1.0, 10.0)),
        resend,
        number,
        tuple(draw.randint(0, 12) for _ in range(draw.choice((0, 0, 0, 1, 2)))),
        (draw.randint(0, 8), draw.choice(("crash", "crash", "sigterm", "twice"))) if draw.random() < 0.3 else None,
    )


def seconds_of(text: str) -> float:
    """What the few durations of this file mean, without the daemon's own parser."""
    assert format_duration(float(text[:-1])) == text
    return float(text[:-1])
