"""No look is lost, none is later than asked, and none goes on for ever: of a timer, and of couriers with their own.

Both are properties in virtual time. The second drives the whole flow and asks it, whenever nothing more happens by
itself, whether an attempt may begin that has not begun.
"""

import math
from collections.abc import Iterable

import trio
from hookd.core.client import Endpoint
from hookd.core.rate import Rate
from hookd.core.settings import DeliverySettings, RetrySettings, Settings
from hookd.flow.courier import REST_SECONDS
from hookd.flow.timer import SOON, Timer
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.flow.harness import URL, Flow, Hang, Later, Slow, at, endpoint, now

STEPS_MAX = 3000  # of a timer's task; more is a look that goes on for ever


class Steps(trio.abc.Instrument):
    """Counts those of timers, and cancels all where there is no end of them."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.count = 0
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name == "hookd.flow.timer.Timer.run"
        if self.count > STEPS_MAX:
            self._scope.cancel()


class Wanting:
    """Knows when it wants a look, and holds each against that. Its answers are so many seconds from each look."""

    def __init__(self, timer: Timer, answers: list[int], *, goes_by_clock: bool) -> None:
        self.wanted_at = math.inf
        self._asked_at = 0.0
        self._timer = timer
        self._answers = list(answers)
        self.goes_by_clock = goes_by_clock

    def ask(self, wanted_at: float) -> None:
        self._timer.look_at(self, wanted_at)
        self._want(min(self.wanted_at, wanted_at))

    def forget(self) -> None:
        self._timer.forget(self)
        self.wanted_at = math.inf

    def look(self, at: float) -> float:
        time = trio.current_time()
        assert time == max(self.wanted_at, self._asked_at)
        assert at == (time if self.goes_by_clock else self.wanted_at)
        self.wanted_at = math.inf
        if self._answers:
            self._want(time + self._answers.pop())
        return self.wanted_at

    def _want(self, wanted_at: float) -> None:
        if wanted_at != self.wanted_at:
            self.wanted_at, self._asked_at = wanted_at, trio.current_time()


FOUR_OF_EITHER = st.lists(st.booleans(), min_size=4, max_size=4)
WHO = st.integers(0, 3)
TIMER_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), WHO, st.one_of(st.integers(0, 6), st.just(SOON))),
        st.tuples(st.just("sooner and sooner"), WHO, st.integers(40, 90)),  # as many stale entries are swept out
        st.tuples(st.just("forget"), WHO, st.just(0)),
        st.tuples(st.just("pass"), WHO, st.integers(0, 5)),
    ),
    max_size=25,
)


@given(TIMER_STEPS, st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=4, max_size=4), FOUR_OF_EITHER)
def test_each_look_is_at_its_moment_and_only_as_often_as_wanted(steps, answers, by_clock) -> None:
    """Whoever asks, asks again for sooner or later, is forgotten, or answers with another moment."""

    async def take_steps() -> None:
        timer = Timer()
        many = [Wanting(timer, each, goes_by_clock=one) for each, one in zip(answers, by_clock, strict=True)]
        async with trio.open_nursery() as nursery:
            trio.lowlevel.add_instrument(counted := Steps(nursery.cancel_scope))
            nursery.start_soon(timer.run)
            for step, who, number in steps:
                match step:
                    case "ask":
                        many[who].ask(trio.current_time() + number)
                    case "sooner and sooner":
                        for less in range(number):
                            many[who].ask(trio.current_time() + 9 - less / 10)
                    case "forget":
                        many[who].forget()
                    case "pass":
                        await at(trio.current_time() + number)
            await at(trio.current_time() + 100)
            assert [one.wanted_at for one in many] == [math.inf] * 4
            nursery.cancel_scope.cancel()
        assert counted.count <= STEPS_MAX

    trio.run(take_steps, clock=MockClock(autojump_threshold=0))


ENDPOINTS = (
    ("acme", endpoint("plain", url="https://plain.example/")),
    ("acme", endpoint("other", url="https://other.example/")),
    ("acme", endpoint("rated", url="https://rated.example/", rate=Rate.of("1/s"))),
    ("bit", endpoint("strict", url="https://strict.example/", order="strict")),
)
ANSWERS = (200, 503, 400, Later(429, "7"), Slow(1, 200), Slow(3, 200), Slow(4, 500))
FLOW_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("admit", "admit", "answer", "answer", "pause", "resume", "retry", "cancel", "move", "crash")),
        st.integers(0, len(ENDPOINTS) - 1),
        st.integers(0, 20),
        st.sampled_from((None, None, 0, 0, 0.5, 1, 3, 9)),  # seconds that pass then; None: a turn of the loop
    ),
    min_size=10,
    max_size=40,
)
CLIENT_IN_FLIGHT_MAX, CONCURRENCY = 3, 8
SETTINGS = Settings(
    retry=RetrySettings(schedule_seconds=(2.0, 5.0, 9.0), jitter=0.0),
    delivery=DeliverySettings(connections_max=2 * CLIENT_IN_FLIGHT_MAX, concurrency=CONCURRENCY),
)


class Played:
    """A flow, what is done to it, and whether anything stands still that should go on."""

    def __init__(self) -> None:
        self.flow = Flow(SETTINGS)
        self.endpoints = [one for _, one in ENDPOINTS]

    def put(self) -> None:
        for client_id in ("acme", "bit"):
            owned = [one for (owner, _), one in self._all() if owner == client_id]
            self.flow.put(client_id, *owned)

    async def crash(self, client_id: str) -> None:
        """In the courier's next look, if it has any. Nobody else is to read the clock."""
        await now()
        self.flow.dispatch.wake(client_id)
        self.flow.clock.fail_once()
        await now()
        self.flow.clock.call_once(lambda: None)

    def do(self, step: str, who: int, number: int) -> None:
        client_id, one, flow = ENDPOINTS[who][0], self.endpoints[who], self.flow
        match step:
            case "admit":
                flow.admit_many(number % 5, client_id)
            case "answer":
                flow.sender.script(str(one.url), ANSWERS[number % len(ANSWERS)])
            case "pause":
                flow.registration.pause(client_id, one.id)
            case "resume":
                flow.registration.resume(client_id, one.id)
            case "move":
                self.endpoints[who] = _moved(one)
                flow.sender.script(str(self.endpoints[who].url), 200)
                self.put()
            case "retry" | "cancel":
                unsettled = flow.ledger.unsettled_events(client_id)
                act = flow.retry_now.retry if step == "retry" else flow.cancel.cancel
                for event in list(unsettled)[:1]:
                    act(event)

    async def go_on(self, until: float) -> None:
        """From each moment to the next at which an attempt may begin: once it has come, one has begun."""
        while True:
            await now()
            self.check()
            moment = min((one for one in self._moments() if one > trio.current_time()), default=math.inf)
            if moment >= until:
                break
            await at(moment)
        await at(until)
        self.check()

    def check(self) -> None:
        """Where there is room, nothing stands still that may go on. Who has no work is let go."""
        rows = {one.id: self.flow.ledger.health(client_id, one.id) for (client_id, _), one in self._all()}
        if sum(row.in_flight for row in rows.values() if row is not None) < CLIENT_IN_FLIGHT_MAX:
            for (client_id, _), one in self._all():
                row = rows[one.id]
                if row is not None and row.in_flight < row.room(CONCURRENCY) and not self._is_resting(client_id):
                    assert self.flow.dispatch.next_attempt_to(client_id, one.id) > trio.current_time(), one.id
        assert all(one.has_work or self._is_resting(one.client_id) for one in self.flow.dispatch.couriers())

    def _moments(self) -> list[float]:
        rested = [line["at"] + REST_SECONDS for line in self.flow.log.of("courier.crashed")]
        return [courier.next_attempt() for courier in self.flow.dispatch.couriers()] + rested

    def _all(self) -> Iterable[tuple[tuple[str, Endpoint], Endpoint]]:
        return zip(ENDPOINTS, self.endpoints, strict=True)

    def _is_resting(self, client_id: str) -> bool:
        crashes = [line["at"] for line in self.flow.log.of("courier.crashed") if line["client_id"] == client_id]
        return bool(crashes) and trio.current_time() < crashes[-1] + REST_SECONDS


@given(FLOW_STEPS)
def test_what_may_begin_has_begun_and_who_has_nothing_left_is_let_go(steps) -> None:
    """Whatever endpoints answer and operators do. At the end no courier is left, and no timer has a turn."""

    async def take_steps() -> None:
        played = Played()
        async with trio.open_nursery() as nursery:
            trio.lowlevel.add_instrument(counted := Steps(nursery.cancel_scope))
            await played.flow.start(nursery)
            played.put()
            for step, who, number, seconds in steps:
                if step == "crash":
                    await played.crash(ENDPOINTS[who][0])
                else:
                    played.do(step, who, number)
                if seconds is None:
                    await trio.lowlevel.checkpoint()
                else:
                    await played.go_on(trio.current_time() + seconds)
            for who in range(len(ENDPOINTS)):
                played.do("resume", who, 0)
                played.do("move", who, 0)
            await played.go_on(trio.current_time() + 600)
            assert played.flow.ledger.totals().unsettled_events == 0
            assert played.flow.dispatch.couriers() == []
            before = counted.count
            await at(trio.current_time() + 600)
            assert counted.count == before
            nursery.cancel_scope.cancel()
        assert counted.count <= STEPS_MAX

    trio.run(take_steps, clock=MockClock(autojump_threshold=0))


async def test_lane_that_may_begin_no_more_when_its_turn_comes_is_looked_at_later(autojump_clock, nursery) -> None:
    """It was offered, and waited for a connection. Then its endpoint asked for a wait."""
    flow = Flow(Settings(delivery=DeliverySettings(connections_max=4)))
    await flow.start(nursery)
    for client_id, count in (("acme", 2), ("bit", 1)):
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/"))
        flow.sender.script(f"https://{client_id}.example/", Hang())
        flow.admit_many(count, client_id)
    flow.put("cor", endpoint(url="https://cor.example/"))
    flow.sender.script("https://cor.example/", Later(429, "7", seconds=2), 200)
    await now()
    flow.admit("cor", "first")
    await now()
    flow.admit("cor", "second")
    await now()
    assert flow.sender.times("second") == []
    await at(20)
    assert flow.sender.times("second") == [9.7]  # jitter upward


async def test_what_is_due_and_has_no_room_is_waited_for_without_a_look(autojump_clock) -> None:
    """The end of an attempt is what it waits for, and no moment: a look at each turn would go on all that time."""
    flow = Flow()
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        flow.put()
        flow.sender.script(URL, Slow(5, 200))
        flow.admit_many(3)
        await at(1)
        trio.lowlevel.add_instrument(counted := Steps(nursery.cancel_scope))
        flow.dispatch.wake("acme")
        await at(4)
        assert flow.sender.flying == 2
        nursery.cancel_scope.cancel()
    assert counted.count == 3  # woken, the look, and the end


def _moved(one: Endpoint) -> Endpoint:
    return endpoint(one.id, url=f"{one.url}x/", order=one.order, rate=one.rate)
