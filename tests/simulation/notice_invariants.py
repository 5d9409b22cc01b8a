"""What notices must tell, against what the log said of states and of what was given up: each change once, of one kind
at most one a minute for an endpoint, and after that minute what holds on.

A notice is seen at the moment that it is made, on its way into the feed. The log's line of a change comes just before.
Of a process that was killed nobody sees either: what its tasks make while they end is not judged.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.notice import Kind, Notice
from hookd.core.notices import Notices

from tests.simulation.model import Exchange, Posted

if TYPE_CHECKING:
    from tests.simulation.world import World

MINUTE = 60.0
# What time alone brings is looked at once a second.
LATE_SECONDS = 1.5
EPSILON = 1e-6
STATES = {Kind.THROTTLED: "throttled", Kind.PAUSED: "paused", Kind.DISABLED: "disabled"}
OK = ("ok", None)

Key = tuple[str | None, str | None]
State = tuple[str, str | None]


@dataclass
class GivenUp:
    began: float
    count: int = 0
    first: str = ""
    last: str = ""


@dataclass
class Endpoint:
    known: State = OK  # by who reads the notices
    is_failing: bool = False  # as they know
    state: State = OK  # by the log
    since: float = 0.0
    told_at: dict[Kind, float] = field(default_factory=dict)
    given_up: GivenUp | None = None

    def may_tell(self, kind: Kind, now: float) -> bool:
        return now >= self.told_at.get(kind, -MINUTE) + MINUTE + EPSILON


class Readers:
    """Who reads one run's notices."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._endpoints: dict[Key, Endpoint] = {}
        self._due: dict[Key, float] = {}  # a change that is to be told at once, since when
        self._told: dict[str, Notice] = {}  # by id

    # What is seen

    def logged_state(self, key: tuple[str, str], state: State) -> None:
        """The log told a change of an endpoint's state."""
        self.check_due()
        one, now = self._of(key), self._world.now()
        one.state, one.since = state, now
        kinds = [kind for kind, name in STATES.items() if name == state[0]] or [Kind.RECOVERED, Kind.FAILING]
        if state != one.known and all(one.may_tell(kind, now) for kind in kinds):
            self._due[key] = now

    def logged_removal(self, key: tuple[str, str]) -> None:
        """A later endpoint of this id is another."""
        one = self._of(key)
        one.known, one.is_failing, one.state, one.since = OK, False, OK, self._world.now()
        self._due.pop(key, None)

    def logged_given_up(self, key: tuple[str, str], event_id: str) -> None:
        one = self._of(key)
        if one.given_up is None:
            one.given_up = GivenUp(self._world.now(), first=event_id)
        one.given_up.count += 1
        one.given_up.last = event_id

    def told(self, notice: Notice) -> None:
        world, key, now = self._world, (notice.client_id, notice.endpoint_id), self._world.now()
        if world.run.is_over:
            return
        world.count(f"notice: {notice.type.value}")
        self._told[notice.id] = notice
        one = self._of(key)
        if now < one.told_at.get(notice.type, -MINUTE) + MINUTE - EPSILON:
            self._fail(f"{notice.type.value} of {key} twice within a minute: {one.told_at[notice.type]:.3f}")
        one.told_at[notice.type] = now
        if notice.type is Kind.EXHAUSTED:
            self._check_given_up(one, notice, now)
        elif notice.type.value.startswith("hookd.endpoint."):
            self._check_state(key, one, notice)

    def _check_state(self, key: Key, one: Endpoint, notice: Notice) -> None:
        paused_by = None if notice.paused_by is msgspec.UNSET else str(notice.paused_by)
        if one.state != (notice.state, paused_by):
            self._fail(f"{notice} is told of {key}, which is {one.state}")
        if notice.type is Kind.FAILING:
            if one.is_failing and (one.known == one.state or one.state != OK):
                self._fail(f"{key} is told to be failing twice")
            one.is_failing = True
            one.known = OK if one.state == OK else one.known
        elif notice.type is Kind.RECOVERED:
            if one.state != OK or (one.known == OK and not one.is_failing):
                self._fail(f"{key} is told to have recovered, and was {one.known} last")
            one.known, one.is_failing = OK, False
        else:
            if one.known == one.state or STATES[notice.type] != one.state[0]:
                self._fail(f"{notice.type.value} of {key} is told, and was {one.known} last")
            one.known = one.state
        if one.known == one.state:
            self._due.pop(key, None)

    def _check_given_up(self, one: Endpoint, notice: Notice, now: float) -> None:
        given_up, one.given_up = one.given_up, None
        if given_up is None or not MINUTE - EPSILON <= now - given_up.began <= MINUTE + LATE_SECONDS:
            self._fail(f"{notice} tells of {given_up}")
            return
        told = (notice.counts["exhausted"], notice.first_event_id, notice.last_event_id)
        if told != (given_up.count, given_up.first, given_up.last):
            self._fail(f"{notice} tells of {given_up}")

    # What must have been seen by now

    def check_due(self) -> None:
        """Nothing is due that was not told at once; and what was held back holds on no longer than it may."""
        now = self._world.now()
        for key, since in self._due.items():
            if now > since + EPSILON:
                self._fail(f"{key} is {self._of(key).state} since {since:.3f} s, and no notice says so")
        for key, one in self._endpoints.items():
            if one.state != one.known and now > one.since + MINUTE + LATE_SECONDS:
                self._fail(f"{key} is {one.state} since {one.since:.3f} s; the last notice said {one.known}")
            if one.given_up is not None and now > one.given_up.began + MINUTE + LATE_SECONDS:
                self._fail(f"{one.given_up} of {key} was never told")

    def check_sent(self, exchange: Exchange) -> Posted | None:
        """The event that this request is to bring, if it is of hookd's own."""
        client_id, notice = exchange.attempt.host.key[0], self._told.get(exchange.head.get("webhook-id", ""))
        if notice is None:
            return None
        if client_id != self._world.settings.operations.client or notice.client_id == client_id:
            self._fail(f"{notice} was sent to {client_id}")
        self._world.count("operational events sent")
        return Posted(client_id, notice.id, notice.type.value, msgspec.json.encode(notice))

    def know(self, notice_id: str) -> bool:
        return notice_id in self._told

    def _of(self, key: Key) -> Endpoint:
        return self._endpoints.setdefault(key, Endpoint())

    def _fail(self, message: str) -> None:
        self._world.fail("S26", message)


class WatchedNotices(Notices):
    """The feed's ring, which shows each notice to the model as it comes."""

    def __init__(self, effective: EffectiveSettings, readers: Readers) -> None:
        super().__init__(effective)
        self._readers = readers

    def append(self, notice: Notice) -> None:
        self._readers.told(notice)
        super().append(notice)


def check_status(world: "World", view: dict[str, Any]) -> None:
    """Hookd's own events balance by themselves."""
    own = view["operations"]
    if own["accepted"] != own["pending"] + own["failed"] + own["delivered"] + own["exhausted"]:
        world.fail("S26", f"the operational events do not balance: {own}")
    if not world.settings.operations.client and own["accepted"]:
        world.fail("S26", f"nobody is to get notices, and {own} are events")
