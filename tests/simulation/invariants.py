"""The invariants that show on the wire, checked at the moment that breaks them.

The numbers are those of tests/README.md. Where what the daemon knew at a moment is not certain from outside (a PUT is
under way, a test may be the one that began), nothing is claimed.
"""

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from standardwebhooks import Webhook

from tests.simulation import link_invariants
from tests.simulation.model import HARD, SOFT, Attempt, Duty, Exchange, Host, Model, Posted, Registered, same

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
PAUSE_AFTER_ATTEMPTS, PAUSE_AFTER_SECONDS, PROBE_SECONDS_MIN = 10, 30.0, 5.0
RETRY_AFTER_SECONDS_MAX = 3600.0
CRASHES_MAX = 3  # at which a delivery was in flight: then it is suspected of them


class Checks:
    """The network's tap."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.posted: dict[tuple[str, str], Posted] = {}
        self.nameless: dict[tuple[str, bytes], Posted] = {}  # whose id no producer knows yet
        self._nameless_before: dict[tuple[str, bytes], Posted] = {}  # of earlier runs
        self.registered: dict[tuple[str, str], Registered] = {}
        self.open_attempts: dict[Attempt, None] = {}

    def fail(self, rule: str, message: str) -> None:
        self.world.fail(rule, message)

    def begin_run(self) -> None:
        self.open_attempts.clear()
        self._nameless_before |= self.nameless
        self.nameless.clear()
        for posted in (*self.posted.values(), *self._nameless_before.values()):
            posted.begin_run()
        for registered in self.registered.values():
            registered.begin_run()

    def end_run(self) -> None:
        """What was in flight is cut; what was delivered before this moment the daemon knew, and does not bring back."""
        for posted in self.posted.values():
            for endpoint_id, duty in posted.duties.items():
                if duty.was_delivered_before(self.world.now()):
                    posted.delivered_before.add(endpoint_id)
        asked_at = self.world.run.stop_asked_at
        since = self.world.now() if asked_at is None else asked_at
        for registered in self.registered.values():
            for attempt in (*registered.open, *registered.history):
                attempt.was_cut |= attempt in registered.open or attempt.was_open_at(since - EPSILON)

    def model(self, run_id: str, ended_at: float, *, is_torn: bool) -> Model:
        """Of the run that is over, before the next begins."""
        posted = {(one.client_id, one.id): one for one in map(copy.copy, self.posted.values())}
        nameless = {key: copy.copy(one) for key, one in self.nameless.items()}
        registered = {key: copy.copy(one) for key, one in self.registered.items()}
        return Model(run_id, ended_at, posted, nameless, registered, is_torn)

    def posted_as(self, client_id: str, event_id: str, payload: bytes | None = None) -> Posted | None:
        """The event; one whose id the daemon made is known by its payload, each of which is posted once."""
        posted = self.posted.get((client_id, event_id))
        if posted is None and payload is not None:
            posted = self.nameless.pop((client_id, payload), None)
            if posted is not None:
                posted.id = event_id
                self.posted[client_id, event_id] = posted
        return posted

    def posted_before(self, line: dict[str, Any]) -> Posted | None:
        """What a report's line is about; one whose id nobody knew is known by its value."""
        client_id, event_id = line["client_id"], line["event_id"]
        posted = self.posted.get((client_id, event_id))
        if posted is None and "payload" in line:
            key = next(
                (key for key in self._nameless_before if key[0] == client_id and same(key[1], line["payload"])), None
            )
            if key is not None:
                posted = self.posted[client_id, event_id] = self._nameless_before.pop(key)
                posted.id = event_id
        return posted

    # The tap

    def begun(self, host: Host) -> Attempt:
        now = self.world.now()
        endpoint = self.registered[host.key]
        fault = "tls" if host.is_tls else self.world.fault_of(host)
        attempt = Attempt(host, now, fault, maybe_test=endpoint.tests_open > 0)
        attempt.maybe_paused = self._may_be_paused(endpoint, now)
        if not endpoint.is_changing:
            old_secrets = [old for old, until in endpoint.old_secrets if now <= until]
            attempt.secrets = (endpoint.secret, *old_secrets)
        self.world.trace("begun", host.name, fault)
        if not attempt.maybe_test:
            self._check_begin(endpoint, attempt, now)
        link_invariants.check_earlier_attempts(self.world, endpoint)
        endpoint.open = [one for one in endpoint.open if one.is_open] + [attempt]
        self.open_attempts = {one: None for one in self.open_attempts if one.is_open}
        self.open_attempts[attempt] = None
        endpoint.begun += 1
        endpoint.history.append(attempt)
        return attempt

    def dialled(self, attempt: Attempt, address: str) -> None:
        self.world.trace("dialled", address)
        if not link_invariants.may_be_dialled(self.world, attempt.host, address) or attempt.fault == "rebound":
            self.fail("S10", f"{address} was dialled for {attempt.host.name}")

    def sent(self, exchange: Exchange, data: bytes) -> None:
        head, _, exchange.body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() in exchange.head:
                self.fail("S7", f"the field {name} stands twice")
            exchange.head[name.lower()] = value.strip()
        self._check_framing(exchange, lines[0])
        event_id = exchange.head.get("webhook-id", "")
        attempt = exchange.attempt
        link_invariants.check_repeat(self.world, attempt)
        link_invariants.check_address(self.world, exchange)
        client_id, endpoint_id = attempt.host.key
        self.world.trace("sent", attempt.host.name, event_id, exchange.head.get("hookd-attempt"), len(data))
        if event_id.startswith("test_"):
            return
        if attempt.maybe_test and attempt.exchanges[0] is exchange:
            attempt.maybe_test = False
            self._check_begin(self.registered[attempt.host.key], attempt, attempt.begun_at, late=True)
        posted = self.posted_as(client_id, event_id, exchange.body)
        if posted is None or not (posted.admitted or posted.maybe):
            self.fail("S8", f"{event_id} of {client_id} was delivered, and was never admitted by this run")
            return
        self._check_identity(exchange, posted)
        self._check_order(exchange, posted, posted.duty(endpoint_id))

    def sent_after(self, before: Exchange, received_bytes: int) -> None:
        link_invariants.check_reuse(self.world, before, received_bytes)

    def read(self, exchange: Exchange) -> None:
        """The daemon has read a final head of this exchange: it decides."""
        answer = exchange.answer
        assert answer is not None
        endpoint = self.registered[exchange.attempt.host.key]
        self.world.trace("read", exchange.attempt.host.name, exchange.head.get("webhook-id"), answer.status)
        if exchange.head["webhook-id"].startswith("test_"):
            return
        posted = self.posted_as(endpoint.key[0], exchange.head["webhook-id"], exchange.body)
        if 200 <= answer.status <= 299 and posted is not None:
            posted.duty(endpoint.key[1]).delivered = exchange

    def over(self, exchange: Exchange) -> None:
        """What was answered is read to its end or given up: from here on the answer has its consequences."""
        answer, host, now = exchange.answer, exchange.attempt.host, self.world.now()
        link_invariants.check_closed(self.world, exchange)
        self.world.trace("over", host.name)
        if answer is None or exchange.read_at is None or exchange.head["webhook-id"].startswith("test_"):
            return
        endpoint = self.registered[host.key]
        endpoint.ever_gone |= answer.status == 410
        if host is not endpoint.host or host.retired or endpoint.is_changing or not endpoint.is_registered:
            return
        if answer.status == 410:
            endpoint.gone, endpoint.gone_at = True, now
        if answer.status > 299 and answer.retry_after is not None:
            seconds = self._retry_after(answer.retry_after)
            if seconds is not None and now + seconds > endpoint.not_before:
                endpoint.not_before, endpoint.not_before_at = now + seconds, now

    # When an attempt may begin

    def _check_begin(self, endpoint: Registered, attempt: Attempt, now: float, *, late: bool = False) -> None:
        """`late`: known only now not to be a test."""
        name = attempt.host.name
        run = self.world.run
        if attempt.host.retired and not late:
            self.fail("S2", f"an attempt began at {name}, which is not registered any more")
        if endpoint.paused and not endpoint.is_changing and not late:
            self.fail("S2", f"an attempt began at {name}, which an operator has paused")
        if endpoint.gone and not late and attempt.host is endpoint.host and now > endpoint.gone_at:
            self.fail("S2", f"an attempt began at {name}, which is disabled")
        if run.no_attempts_after is not None and now > run.no_attempts_after + EPSILON:
            self.fail("S2", f"an attempt began at {name} {now - run.no_attempts_after:.3f} s after the drain's end")
        is_held = endpoint.not_before_at < now < endpoint.not_before - EPSILON
        if is_held and attempt.host is endpoint.host and not late:
            self.fail("S4", f"an attempt began at {name} {endpoint.not_before - now:.3f} s before Retry-After")
        if endpoint.tests_open or late:
            return
        count = 1 + sum(one.is_open for one in endpoint.open)
        if count > endpoint.concurrency:
            self.fail("S6", f"{count} attempts in flight at {name}; concurrency is {endpoint.concurrency}")
        total = 1 + sum(one.is_open for one in self.open_attempts)
        connections_max = self.world.settings.delivery.connections_max
        if total > connections_max and not any(each.tests_open for each in self.registered.values()):
            self.fail("S6", f"{total} attempts in flight; delivery.connections_max is {connections_max}")
        self._check_probe(endpoint, attempt, now)

    def _check_probe(self, endpoint: Registered, attempt: Attempt, now: float) -> None:
        """Surely paused by failures: one probe at a time, not sooner than 5 s after the pause or the last."""
        history = [one for one in endpoint.history if not one.maybe_test]  # of a test nothing follows
        ended = [one for one in history if not one.is_open and one.host is attempt.host]
        other = max((one.ended_at() for one in ended if one.kind != HARD), default=-1.0)
        ends = sorted(one.ended_at() for one in ended if one.kind == HARD and one.ended_at() > other)
        if not ends or endpoint.loosened_at >= ends[0] or endpoint.is_changing:
            return
        paused_at = next(
            (end for end in ends[PAUSE_AFTER_ATTEMPTS - 1 :] if end - ends[0] >= PAUSE_AFTER_SECONDS + EPSILON), None
        )
        if paused_at is None or now <= paused_at:
            return
        probes = [one for one in history if one.begun_at > paused_at]
        since = now - max((one.begun_at for one in probes), default=paused_at)
        if since < PROBE_SECONDS_MIN - EPSILON or any(one.is_open for one in probes):
            self.fail("S4", f"{attempt.host.name} is paused by failures and was attempted {since:.3f} s after the last")

    def _may_be_paused(self, endpoint: Registered, now: float) -> bool:
        soft = max((one.ended_at() for one in endpoint.history if one.kind == SOFT), default=-1.0)
        since = [one for one in endpoint.history if one.begun_at >= soft or one.ended_at() >= soft]
        return len(since) >= PAUSE_AFTER_ATTEMPTS and now - since[0].begun_at >= PAUSE_AFTER_SECONDS

    # What a request must be

    def _check_framing(self, exchange: Exchange, line: str) -> None:
        head = exchange.head
        if line != "POST /hook?token=URL-CANARY HTTP/1.1" or head.get("host") != exchange.attempt.host.name:
            self.fail("S7", f"{line!r} to {head.get('host')!r} at {exchange.attempt.host.name}")
        if head.get("content-length") != str(len(exchange.body)) or "transfer-encoding" in head:
            self.fail("S7", "the body is not framed by its length")

    def _check_identity(self, exchange: Exchange, posted: Posted) -> None:
        head = exchange.head
        if exchange.body != posted.payload or head.get("hookd-event-type") != posted.type:
            self.fail("S7", f"the body or type of {posted.id} is not what was posted")
        timestamp = int(head.get("webhook-timestamp", "-1"))
        times = self.world.walls_between(exchange.attempt.begun_at, self.world.now())
        if not any(int(least) <= timestamp <= most for least, most in times):
            self.fail("S7", f"the timestamp of {posted.id} is {timestamp}, the clock said {times}")
        moment = datetime.fromtimestamp(timestamp, UTC)
        given = head.get("webhook-signature", "").split(" ")
        secrets = exchange.attempt.secrets
        accepted = [Webhook(secret).sign(posted.id, moment, exchange.body.decode()) for secret in secrets]
        if accepted and (accepted[0] not in given or not set(given) <= set(accepted)):
            self.fail("S7", f"the signature of {posted.id} is not the secret's")

    def _check_order(self, exchange: Exchange, posted: Posted, duty: Duty) -> None:
        attempt = exchange.attempt
        number = int(exchange.head.get("hookd-attempt", "-1"))
        endpoint = self.registered[attempt.host.key]
        if posted.may_be_forgotten:
            duty.attempts[number] = attempt
            return
        what = f"attempt {number} of {posted.id} at {attempt.host.name}"
        if duty.delivered is not None:
            self.fail("S2", f"{what} although a 2xx was read at {duty.delivered.read_at:.3f}")
        if duty.is_recovered and endpoint.key[1] in posted.delivered_before and not posted.is_resent:
            self.fail("S2", f"{what}, which was recovered, and was delivered by an earlier run")
        if duty.crashes >= CRASHES_MAX and duty.retried_at < 0:
            self.fail("S2", f"{what}, which was in flight at {duty.crashes} crashes")
        if duty.removed_at is not None and attempt.begun_at > duty.removed_at > duty.retried_at:
            self.fail("S2", f"{what}, whose endpoint was removed at {duty.removed_at:.3f}")
        last = duty.last()
        if number <= duty.carried or (last is not None and number <= last[0] and last[1] is not attempt):
            self.fail("S3", f"{what} after {last and last[0]}")
        self._check_count(endpoint, duty, number, what)
        if last is not None and last[1] is not attempt:
            link_invariants.check_timeout_of_request(self.world, last[1], what)
            self._check_delay(endpoint, duty, last, number, attempt, what)
        self._check_age(endpoint, duty, attempt, what)
        duty.attempts[number] = attempt

    def _check_count(self, endpoint: Registered, duty: Duty, number: int, what: str) -> None:
        longest = max((len(one) for one in endpoint.schedules), default=0)
        most = (1 + longest) * (1 + duty.retries_sent) + endpoint.changes
        if duty.carried:
            most = max(most, duty.carried + 1 + (1 + longest) * duty.retries_sent) + endpoint.changes
        if number > most:
            self.fail("S3", f"{what}; there are {most}")

    def _check_delay(
        self, endpoint: Registered, duty: Duty, last: tuple[int, Attempt], number: int, attempt: Attempt, what: str
    ) -> None:
        """Not sooner than the schedule says, for each attempt since the last that was seen."""
        number_before, before = last
        if attempt.maybe_paused or duty.retried_at >= before.begun_at or endpoint.is_changing:
            return
        least = sum(self._delay(endpoint, duty, failures) for failures in range(number_before, number))
        waited = attempt.begun_at - before.ended_at()
        if waited < least * (1 - self.world.settings.retry.jitter) - EPSILON:
            self.fail("S4", f"{what} began {waited:.3f} s after attempt {number_before}; the schedule says {least:g}")

    def _delay(self, endpoint: Registered, duty: Duty, failures: int) -> float:
        if duty.retries_sent:  # the schedule began anew at some attempt
            return min((min(one, default=0.0) for one in endpoint.schedules), default=0.0)
        return min((one[min(failures, len(one)) - 1] if one else 0.0 for one in endpoint.schedules), default=0.0)

    def _check_age(self, endpoint: Registered, duty: Duty, attempt: Attempt, what: str) -> None:
        if duty.opened_at is None or duty.retried_at >= duty.opened_at:
            return
        now = attempt.begun_at
        paused = endpoint.paused_seconds + (now - endpoint.paused_at if endpoint.paused_at is not None else 0.0)
        age = now - duty.opened_at - paused
        if age > self.world.settings.retry.age_seconds_max + EPSILON:
            self.fail("S3", f"{what} at the age of {age:.3f} s")

    def _retry_after(self, text: str) -> float | None:
        if text.isdigit():
            return min(float(text), RETRY_AFTER_SECONDS_MAX)
        try:
            date = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        except ValueError:
            return None
        return min(max(date.timestamp() - self.world.wall(), 0.0), RETRY_AFTER_SECONDS_MAX)
