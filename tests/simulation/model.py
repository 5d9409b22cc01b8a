"""What is known from outside the daemon: what was registered, what was posted, what went over the wire.

Nothing here is read from the daemon's own state. A `Duty` is one event to one endpoint in one run.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.simulation.in_force import Holds, Schedules, Secrets
from tests.simulation.wire import End

HARD = "hard"  # unreachable, timed out or 5xx
SOFT = "soft"  # answered below 500
UNSURE = "unsure"


@dataclass(eq=False)
class Host:
    """Where one version of an endpoint's URL points."""

    name: str
    key: tuple[str, str]  # client and endpoint
    addresses: tuple[str, ...]
    is_tls: bool = False
    retired: bool = False
    left: dict[str, float] = field(default_factory=dict)  # addresses that the name pointed to, and until when


@dataclass(frozen=True)
class ForwardProxy:
    """One that leads to endpoints."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a receiver answered; the offsets are into the pipe to the daemon."""

    status: int
    head_end: int
    end: int
    retry_after: str | None = None
    ends_link: bool = False  # whatever comes behind it: the link is not to be used again
    is_proxys: bool = False  # which passed nothing on


@dataclass(eq=False)
class Exchange:
    """One request on one link, as the tap saw it."""

    link: "Wired"
    attempt: "Attempt"
    begun_at: float
    began_written: int  # bytes in the pipe before it
    head: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    body_bytes: int = 0  # that the head announces
    is_nameless: bool = False  # several events have such a head and no id yet: its body tells which it is
    sent_bytes: int = 0
    answer: Answer | None = None
    read_at: float | None = None  # the final head was taken from the pipe by the daemon
    over_at: float | None = None  # the whole answer was
    written_at: float | None = None  # the whole request was, which some are answered before
    closed_at: float | None = None
    is_kept: bool = False  # it is not the first of its link
    hung_up_at: float | None = None  # by the receiver, which had answered
    was_killed: bool = False  # its daemon was, before it had read an answer and while the link was there

    @property
    def lacks_bytes(self) -> bool:
        """A long body is written after its head."""
        return len(self.body) < self.body_bytes

    @property
    def is_open(self) -> bool:
        return self.over_at is None and self.closed_at is None and not self.is_delivered

    @property
    def is_delivered(self) -> bool:
        """Its head says so and was read: its attempt is over, while the rest of the answer may still come."""
        return self.read_at is not None and self.answer is not None and 200 <= self.answer.status <= 299

    @property
    def is_repeated(self) -> bool:
        """The receiver gave up waiting while the request was on its way: that is no answer to it."""
        return self.is_kept and self.read_at is not None and self.answer is not None and self.answer.status == 408

    @property
    def ended_at(self) -> float | None:
        """Until then its attempt goes on."""
        if self.over_at is not None and self.written_at is not None:
            return max(self.over_at, self.written_at)
        return self.closed_at

    @property
    def entered_bytes(self) -> int:
        """How much of it went into the network."""
        return self.link.end.outgoing.written - self.began_written


@dataclass(eq=False)
class Wired:
    """A link from the daemon to a receiver."""

    number: int
    host: Host
    end: End
    attempt: "Attempt"
    exchange: Exchange | None = None
    address: str = ""
    proxy: ForwardProxy | None = None  # that it goes through
    is_tunnel: bool = False  # the proxy hands bytes on


@dataclass(eq=False)
class Attempt:
    """What one task of the daemon does on the network: an attempt, or a test."""

    host: Host
    begun_at: float
    fault: str
    maybe_test: bool
    pending: int = 0  # look-ups and dials under way
    exchanges: list[Exchange] = field(default_factory=list)
    failed_at: float | None = None  # a look-up or dial failed
    maybe_paused: bool = False  # the endpoint, when it began: then it may be a probe, due or not
    is_probe: bool = False  # for sure
    secrets: tuple[str, ...] = ()  # that may sign it; none where that is not certain
    secrets_due: tuple[str, ...] = ()  # that must
    was_cut: bool = False  # by the end of its run
    is_of_notice: bool = False  # it brought an event of hookd's own
    way: str = ""  # the proxy that it must go through
    proxy_fault: str = ""  # what that one does with it, where it does not pass it on

    @property
    def met(self) -> str:
        """The fault that decides what comes of it."""
        return self.proxy_fault or self.fault

    @property
    def is_open(self) -> bool:
        return self.pending > 0 or bool(self.exchanges and self.exchanges[-1].is_open)

    @property
    def answer(self) -> Answer | None:
        """Of the endpoint, as far as can be told: the one that the daemon has read."""
        read = self._read()
        return None if read is None or read.is_proxys else read

    @property
    def is_refused_by_proxy(self) -> bool:
        """And nothing was passed on: it had no earlier try on a kept link."""
        read = self._read()
        return read is not None and read.is_proxys and len(self.exchanges) == 1

    def _read(self) -> Answer | None:
        for exchange in self.exchanges:
            if exchange.read_at is not None and not exchange.is_repeated:
                return exchange.answer
        return None

    @property
    def was_answered(self) -> bool:
        """By its receiver, a 2xx; whether it was read or not."""
        return any(one.answer is not None and 200 <= one.answer.status <= 299 for one in self.exchanges)

    @property
    def has_named_event(self) -> bool:
        return any("webhook-id" in exchange.head for exchange in self.exchanges)

    @property
    def may_have_sent(self) -> bool:
        return any(exchange.sent_bytes for exchange in self.exchanges)

    @property
    def has_sent(self) -> bool:
        if self.is_refused_by_proxy:
            return False
        return any(exchange.entered_bytes for exchange in self.exchanges if exchange.sent_bytes)

    @property
    def was_sent_in_vain(self) -> bool:
        """A kept link took some of it and gave no answer; another sending followed, which may have been answered."""
        return any(one.entered_bytes and one.sent_bytes and one.read_at is None for one in self.exchanges[:-1])

    @property
    def may_have_been_sent_in_vain(self) -> bool:
        return any(one.sent_bytes and one.read_at is None for one in self.exchanges[:-1])

    @property
    def kind(self) -> str:
        """What it came to, as far as that is certain."""
        answer = self.answer
        if answer is not None:
            return HARD if answer.status >= 500 else SOFT
        if self.was_cut or self.is_open or self.host.is_tls or self.way:
            return UNSURE
        return HARD if self.fault in ("refused", "dns_fails", "dns_hangs", "black_hole", "hangs") else UNSURE

    def was_open_at(self, moment: float) -> bool:
        """Its last answer was not over then, nor its link closed."""
        last = self.exchanges[-1] if self.exchanges else None
        return last is not None and last.over_at is None and (last.closed_at is None or last.closed_at >= moment)

    def ended_at(self) -> float:
        """The earliest that it can have ended."""
        times = [self.begun_at, self.failed_at or 0.0]
        for exchange in self.exchanges:
            times += [exchange.read_at or 0.0, exchange.closed_at or 0.0 if exchange.read_at is None else 0.0]
        return max(times)


@dataclass(eq=False)
class Duty:
    attempts: dict[int, Attempt] = field(default_factory=dict)
    delivered: Exchange | None = None
    carried: int = 0  # attempts before it was resent or recovered
    carried_probes: int = 0  # of these, probes that failed
    carried_unknown: bool = False
    crashes: int = 0  # at which it was in flight, as the reports say that it came from
    is_recovered: bool = False
    taken_up: list[dict[str, Any]] = field(default_factory=list)  # the lines of reports that it is recovered from
    retries_sent: int = 0
    retried_at: float = -1.0  # when the last one was sent
    first_asked_at: float | None = None  # not open before: when the first post was sent, or the retry that reopened it
    opened_at: float | None = None  # by then it was open for sure: when the answer to that was read
    before_least: int = 0  # attempts before it was last reopened
    before_most: int = 0
    given_up_before: int = 0  # how often, until it was last reopened
    retry_asked_at: float = -1.0  # the first of those
    retries_open: int = 0  # sent, and not answered: it may be reopened at any moment
    last_status: str = "pending"
    settled_status: str | None = None
    shown_max: int | None = None  # its attempts_max, once it had settled
    removed_at: float | None = None  # its endpoint was, for sure
    cancelled_at: float | None = None  # for sure, by then: an answer said so
    ran_out: bool = False  # it was in flight then

    redeliveries_sent: int = 0  # and replays that may have reached it
    redeliveries_open: int = 0  # of these, not answered: it may be sent again at any moment
    redelivered_at: float = -1.0  # by when the last that was answered had come to what it came to
    delivered_once: Exchange | None = None  # before it was sent again
    is_owed_again: bool = False  # a 202 said so, and no 2xx was read since

    @property
    def is_cancelled(self) -> bool:
        """For sure, and nobody has asked to send it again since."""
        return (
            self.cancelled_at is not None
            and self.retried_at < 0
            and not self.retries_open
            and not self.redeliveries_sent
        )

    @property
    def is_delivered(self) -> bool:
        """For sure: a 2xx was read, and nobody may have asked since to send it again."""
        if self.delivered is None or self.redeliveries_open:
            return False
        return self.delivered.read_at is not None and self.delivered.read_at > self.redelivered_at

    def was_delivered_before(self, moment: float) -> bool:
        """And the attempt was over: until then the delivery takes budget."""
        if self.delivered is None or not self.is_delivered:
            return False
        ended_at = self.delivered.ended_at
        return ended_at is not None and ended_at < moment

    def last(self) -> tuple[int, Attempt] | None:
        if not self.attempts:
            return None
        number = max(self.attempts)
        return number, self.attempts[number]


@dataclass(eq=False)
class Posted:
    """An event that a producer made up."""

    client_id: str
    id: str
    type: str
    payload: bytes
    admitted: bool = False  # a 202 was read, in this run
    maybe: int = 0  # posts of this run whose answer nobody has read
    refused: bool = False
    may_be_forgotten: bool = False
    is_posted_again: bool = False  # in this run, by its id: where it was forgotten it was admitted anew
    endpoints: tuple[str, ...] = ()  # those that the 202 named
    duties: dict[str, Duty] = field(default_factory=dict)

    first_asked_at: float = -1.0  # in this run
    answered_at: float | None = None  # when the first 202 or 200 of this run was read
    traceparents: set[str] = field(default_factory=set)  # of the requests that brought it; empty: of one without
    delivered_before: set[str] = field(default_factory=set)  # endpoints: by earlier runs, and they knew it
    cancelled_before: set[str] = field(default_factory=set)  # likewise
    cancels_asked: set[str | None] = field(default_factory=set)  # in this run, for which endpoints; None: for all
    expires_at: float | None = None  # wall
    is_resent: bool = False  # by hand, in whichever run: then an unclaimed report may bring it back

    def duty(self, endpoint_id: str) -> Duty:
        return self.duties.setdefault(endpoint_id, Duty(first_asked_at=self.first_asked_at))

    def duties_from(self, asked_at: float) -> None:
        """Posted, again perhaps: no duty of it is older than the first post."""
        if self.first_asked_at < 0:
            self.first_asked_at = asked_at

    def may_be_unsettled(self, since: float) -> bool:
        """At some moment since then."""
        if not (self.admitted or self.maybe):
            return False
        if self.is_posted_again and self.may_be_forgotten:
            return True
        if not self.endpoints:
            return bool(self.maybe or self.duties)
        return any(not self.duty(one).was_delivered_before(since) for one in self.endpoints)

    @property
    def cost_bytes(self) -> int:
        """The most that it can take of the budget."""
        return len(self.payload) + 512 + 512 * 8

    def row_bytes(self, *, payloads: bool) -> int:
        """The most that it can take in the recorder: so many endpoints, with ids and URLs of their lengths here."""
        return 375 + 8 * 170 + (len(self.payload) if payloads else 0)

    def begin_run(self) -> None:
        """A restart starts empty."""
        self.admitted = self.refused = self.may_be_forgotten = self.is_posted_again = False
        self.answered_at = None
        self.maybe = 0
        self.first_asked_at = -1.0
        self.endpoints = ()
        self.duties = {}
        self.cancels_asked = set()


@dataclass(eq=False)
class Registered:
    """One endpoint as the platform knows it."""

    key: tuple[str, str]
    definition: dict[str, Any]
    host: Host
    hosts: list[Host] = field(default_factory=list)
    traits: dict[str, Any] = field(default_factory=dict)  # plan.traits
    is_registered: bool = False
    is_changing: bool = False  # a PUT or DELETE is under way: what holds is not known
    was_removed: bool = False  # in this run
    changes: int = 0  # PUTs that changed it in this run
    secrets: Secrets = field(default_factory=Secrets)
    holds: Holds = field(default_factory=Holds)
    paused: bool = False  # by the operator, for sure
    paused_at: float | None = None  # when the pause was asked for
    gone: bool = False  # disabled by a 410, for sure
    gone_at: float = -1.0
    ever_gone: bool = False
    not_before: float = -1.0  # Retry-After
    not_before_at: float = -1.0  # when that was read
    concurrency: int = 1  # the most that may be in flight
    schedules_in_force: Schedules = field(default_factory=Schedules)
    timeout: float = 15.0
    tests_open: int = 0
    tests_ever: int = 0
    open: list[Attempt] = field(default_factory=list)
    begun: int = 0  # attempts in this run
    last_begun_at: float = -1.0
    loosened_at: float = -1.0  # a retry, resume or PUT: a pause need not hold
    history: list[Attempt] = field(default_factory=list)  # of this run

    @property
    def schedules(self) -> list[tuple[float, ...]]:
        """All that may have been in force in this run."""
        return [one.schedule for one in self.schedules_in_force.spans]

    def begun_for_posted(self, *, gets_notices: bool) -> tuple[int, int]:
        """The least and the most of its attempts in this run that were of what producers posted.

        What never sent its head may have been of a notice, where the endpoint gets some.
        """
        most = self.begun - sum(one.is_of_notice for one in self.history)
        return most - gets_notices * sum(not one.has_named_event for one in self.history), most

    def begin_run(self) -> None:
        self.is_registered = self.is_changing = self.was_removed = False
        self.changes = self.begun = self.tests_ever = self.tests_open = 0
        self.paused = self.gone = self.ever_gone = False
        self.paused_at = None
        self.not_before = self.last_begun_at = self.loosened_at = -1.0
        self.secrets, self.holds, self.schedules_in_force = Secrets(self.secrets.current), Holds(), Schedules()
        self.open, self.history = [], []
        for host in self.hosts:
            host.retired = host is not self.host  # a new run knows only what it is told


@dataclass(eq=False)
class Model:
    """What was known of a run when its daemon was gone: what its report must say."""

    run_id: str
    ended_at: float
    posted: dict[tuple[str, str], Posted]
    nameless: dict[tuple[str, bytes], Posted]
    registered: dict[tuple[str, str], Registered]
    is_torn: bool = False  # its recorder's last record
    broken_at: float | None = None  # when its recorder failed, and it went on without
    is_shaken: bool = False  # its clock has raised

    def find(self, client_id: str, event_id: str) -> Posted | None:
        return self.posted.get((client_id, event_id))

    def name(self, posted: Posted, event_id: str) -> Posted:
        """An event whose id the daemon made, and no producer has read."""
        del self.nameless[posted.client_id, posted.payload]
        posted.id = event_id
        self.posted[posted.client_id, event_id] = posted
        return posted


def same(payload: bytes, value: Any) -> bool:
    return bool(msgspec.json.decode(payload) == value)
