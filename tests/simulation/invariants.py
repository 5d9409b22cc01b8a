"""The invariants that show on the wire, checked at the moment that breaks them.

The numbers are those of tests/README.md. Where what the daemon knew at a moment is not certain from outside (a PUT is
under way, a test may be the one that began), nothing is claimed.
"""

import copy
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from standardwebhooks import Webhook

from tests.simulation import (
    cancel_invariants,
    link_invariants,
    log_invariants,
    proxy_invariants,
    terms_invariants,
    trait_invariants,
)
from tests.simulation.log_invariants import Told
from tests.simulation.model import (
    HARD,
    SOFT,
    Answer,
    Attempt,
    Duty,
    Exchange,
    ForwardProxy,
    Host,
    Model,
    Posted,
    Registered,
    Wired,
    same,
)
from tests.simulation.notice_invariants import Readers
from tests.simulation.proxies import way_of

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
PAUSE_AFTER_ATTEMPTS, PAUSE_AFTER_SECONDS, PROBE_SECONDS_MIN = 10, 30.0, 5.0
RETRY_AFTER_SECONDS_MAX = 3600.0
# RFC 9110, section 5.6.7: IMF-fixdate, RFC 850, asctime.
DATE_FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
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
        self.told = Told()
        self.readers = Readers(world)

    def fail(self, rule: str, message: str) -> None:
        if rule == "S6" and self.world.run.ports.shaken_at is not None:  # what a PUT came to is not known
            return
        self.world.fail(rule, message)

    def begin_run(self) -> None:
        self.open_attempts.clear()
        self.told = Told()
        self.readers = Readers(self.world)
        self._nameless_before |= self.nameless
        self.nameless.clear()
        for posted in (*self.posted.values(), *self._nameless_before.values()):
            posted.begin_run()
        for registered in self.registered.values():
            registered.begin_run()

    def end_run(self) -> None:
        """What was in flight is cut; what was delivered before this moment the daemon knew, and does not bring back."""
        failed_at = self.world.run.ports.recorder_failed_at  # from then on the next start knows nothing
        is_shaken = self.world.run.ports.shaken_at is not None
        known_until = self.world.now() if failed_at is None else failed_at
        for posted in self.posted.values():
            for endpoint_id, duty in posted.duties.items():
                if duty.was_delivered_before(known_until) and not is_shaken:
                    posted.delivered_before.add(endpoint_id)
                if duty.is_cancelled and (duty.cancelled_at or 0.0) < known_until and not is_shaken:
                    posted.cancelled_before.add(endpoint_id)
        asked_at = self.world.run.stop_asked_at
        since = self.world.now() if asked_at is None else asked_at
        for registered in self.registered.values():
            for attempt in (*registered.open, *registered.history):
                attempt.was_cut |= attempt in registered.open or attempt.was_open_at(since - EPSILON)
        if not is_shaken:
            log_invariants.check_end(self.world)
            self.readers.check_due()

    def model(self, run_id: str, ended_at: float, *, is_torn: bool, broken_at: float | None, is_shaken: bool) -> Model:
        """Of the run that is over, before the next begins."""
        posted = {(one.client_id, one.id): one for one in map(copy.copy, self.posted.values())}
        nameless = {key: copy.copy(one) for key, one in self.nameless.items()}
        registered = {key: copy.copy(one) for key, one in self.registered.items()}
        return Model(run_id, ended_at, posted, nameless, registered, is_torn, broken_at, is_shaken)

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
        attempt.way = way_of(endpoint, self.world.settings.egress.shared)
        attempt.proxy_fault = self.world.proxy_fault_of(host, attempt.way) if attempt.way else ""
        if not endpoint.is_changing and not endpoint.secrets.is_unsure:
            attempt.secrets, attempt.secrets_due = endpoint.secrets.may_sign(now), endpoint.secrets.must_sign(now)
        self.world.trace("begun", host.name, attempt.met)
        if not attempt.maybe_test:
            self._check_begin(endpoint, attempt, now)
        link_invariants.check_earlier_attempts(self.world, endpoint)
        endpoint.open = [one for one in endpoint.open if one.is_open] + [attempt]
        self.open_attempts = {one: None for one in self.open_attempts if one.is_open}
        self.open_attempts[attempt] = None
        endpoint.begun += 1
        endpoint.history.append(attempt)
        return attempt

    def dialled(self, attempt: Attempt, address: str, proxy: ForwardProxy | None) -> None:
        self.world.trace("dialled", address)
        proxy_invariants.check_dialled(self.world, attempt, proxy)
        if proxy is not None:
            return
        if not link_invariants.may_be_dialled(self.world, attempt.host, address) or attempt.fault == "rebound":
            self.fail("S10", f"{address} was dialled for {attempt.host.name}")

    def looked_up(self, attempt: Attempt) -> None:
        proxy_invariants.check_way(self.world, attempt, None)

    def taken(self, attempt: Attempt, wired: Wired) -> None:
        proxy_invariants.check_way(self.world, attempt, wired.proxy)

    def tunnelled(self, wired: Wired, data: bytes) -> None:
        proxy_invariants.check_tunnelled(self.world, wired, data)

    def sent(self, exchange: Exchange, data: bytes) -> None:
        head, _, exchange.body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() in exchange.head:
                self.fail("S7", f"the field {name} stands twice")
            exchange.head[name.lower()] = value.strip()
        exchange.body_bytes = int(exchange.head.get("content-length", "-1"))
        self._check_framing(exchange, lines[0])
        event_id = exchange.head.get("webhook-id", "")
        attempt = exchange.attempt
        link_invariants.check_repeat(self.world, attempt)
        link_invariants.check_address(self.world, exchange)
        client_id = attempt.host.key[0]
        self.world.trace("sent", attempt.host.name, event_id, exchange.head.get("hookd-attempt"), len(data))
        if event_id.startswith("test_"):
            return
        if attempt.maybe_test and attempt.exchanges[0] is exchange:
            attempt.maybe_test = False
            self._check_begin(self.registered[attempt.host.key], attempt, attempt.begun_at, late=True)
        own = self.readers.check_sent(exchange)
        if own is not None:
            attempt.is_of_notice = True
            if not exchange.lacks_bytes:
                self._check_identity(exchange, own)
            return
        posted = self.posted_as(client_id, event_id, exchange.body)
        if posted is None and exchange.lacks_bytes:
            alike = self._nameless_alike(client_id, exchange)
            exchange.is_nameless = len(alike) > 1
            if exchange.is_nameless:
                return
            posted = self.posted_as(client_id, event_id, alike[0]) if alike else None
        self._check_sent(exchange, posted)

    def sent_more(self, exchange: Exchange, data: bytes) -> None:
        """The body, of which its head was sent before."""
        exchange.body += data
        if len(exchange.body) != exchange.body_bytes:
            self.fail("S7", "the body is not framed by its length")
        client_id, event_id = exchange.attempt.host.key[0], exchange.head.get("webhook-id", "")
        if exchange.is_nameless:
            self._check_sent(exchange, self.posted_as(client_id, event_id, exchange.body))
        elif (posted := self.posted_as(client_id, event_id)) is not None:
            self._check_identity(exchange, posted)

    def _check_sent(self, exchange: Exchange, posted: Posted | None) -> None:
        client_id, endpoint_id = exchange.attempt.host.key
        if posted is None or not (posted.admitted or posted.maybe):
            event_id = exchange.head.get("webhook-id", "")
            self.fail("S8", f"{event_id} of {client_id} was delivered, and was never admitted by this run")
            return
        if not exchange.lacks_bytes:
            self._check_identity(exchange, posted)
        self._check_order(exchange, posted, posted.duty(endpoint_id))

    def _nameless_alike(self, client_id: str, exchange: Exchange) -> list[bytes]:
        """Payloads whose id nobody has read, of the head's type and length, and not refused."""
        wanted = client_id, exchange.head.get("hookd-event-type"), exchange.body_bytes
        return [
            payload
            for (posted_by, payload), posted in self.nameless.items()
            if posted.maybe and (posted_by, posted.type, len(payload)) == wanted
        ]

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
            duty = posted.duty(endpoint.key[1])
            duty.delivered, duty.is_owed_again = exchange, False

    def over(self, exchange: Exchange) -> None:
        """What was answered is read to its end or given up: from here on the answer has its consequences."""
        answer, host, now = exchange.answer, exchange.attempt.host, self.world.now()
        link_invariants.check_closed(self.world, exchange)
        self.world.trace("over", host.name)
        if answer is None or exchange.read_at is None or exchange.head["webhook-id"].startswith("test_"):
            return
        endpoint = self.registered[host.key]
        endpoint.ever_gone |= answer.status == 410
        self._hold(endpoint, exchange, answer)
        if host is not endpoint.host or host.retired or endpoint.is_changing or not endpoint.is_registered:
            return
        if answer.status == 410:
            endpoint.gone, endpoint.gone_at = True, now
        if answer.status > 299 and answer.retry_after is not None:
            seconds = self._retry_after(answer.retry_after)
            if seconds is not None and now + seconds > endpoint.not_before:
                endpoint.not_before, endpoint.not_before_at = now + seconds, now

    def _hold(self, endpoint: Registered, exchange: Exchange, answer: Answer) -> None:
        """What Retry-After asks for, in doubt too: one of another URL may hold what has this one's name by now."""
        seconds = None if answer.retry_after is None else self._retry_after(answer.retry_after)
        if seconds is None or exchange.read_at is None or answer.status < 300:
            return
        host = exchange.attempt.host
        is_sure = host is endpoint.host and not host.retired and not endpoint.is_changing and endpoint.is_registered
        endpoint.holds.hold(exchange.read_at, self.world.now(), seconds, is_sure=is_sure)

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
        trait_invariants.check_begin(self.world, endpoint, attempt, now)

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
        attempt.is_probe = True
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
        if line != proxy_invariants.request_line(exchange) or head.get("host") != exchange.attempt.host.name:
            self.fail("S7", f"{line!r} to {head.get('host')!r} at {exchange.attempt.host.name}")
        proxy_invariants.check_request(self.world, exchange)
        is_framed = exchange.body_bytes == len(exchange.body) or not exchange.body
        if not is_framed or "transfer-encoding" in head:
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
        due = [sign for secret, sign in zip(secrets, accepted, strict=True) if secret in exchange.attempt.secrets_due]
        if accepted and not set(due) <= set(given) <= set(accepted):
            counts = f"{len(given)} of {len(due)} to {len(accepted)}"
            self.fail("S7", f"{posted.id} is not signed by the secrets in force: {counts}")

    def _check_order(self, exchange: Exchange, posted: Posted, duty: Duty) -> None:
        attempt = exchange.attempt
        number = int(exchange.head.get("hookd-attempt", "-1"))
        endpoint = self.registered[attempt.host.key]
        if posted.may_be_forgotten:
            duty.attempts[number] = attempt
            return
        what = f"attempt {number} of {posted.id} at {attempt.host.name}"
        if duty.delivered is not None and duty.delivered.attempt is not attempt:
            if duty.is_delivered:
                self.fail("S2", f"{what} although a 2xx was read at {duty.delivered.read_at:.3f}")
            duty.delivered_once, duty.delivered = duty.delivered, None
        if duty.is_recovered and endpoint.key[1] in posted.delivered_before and not posted.is_resent:
            self.fail("S2", f"{what}, which was recovered, and was delivered by an earlier run")
        if duty.crashes >= CRASHES_MAX and duty.retried_at < 0:
            self.fail("S2", f"{what}, which was in flight at {duty.crashes} crashes")
        if duty.removed_at is not None and attempt.begun_at > duty.removed_at > duty.retried_at:
            self.fail("S2", f"{what}, whose endpoint was removed at {duty.removed_at:.3f}")
        last = duty.last()
        if number <= duty.carried or (last is not None and number <= last[0] and last[1] is not attempt):
            self.fail("S3", f"{what} after {last and last[0]}")
        trait_invariants.check_sent(self.world, endpoint, exchange, posted, duty)
        terms_invariants.check_count(self.world, endpoint, duty, number, attempt, what)
        if last is not None and last[1] is not attempt:
            link_invariants.check_timeout_of_request(self.world, last[1], what)
            terms_invariants.check_delay(self.world, endpoint, duty, last, number, attempt, what)
        terms_invariants.check_age(self.world, endpoint, duty, attempt, what)
        cancel_invariants.check_sent(self.world, endpoint, attempt, posted, duty, what)
        duty.attempts[number] = attempt

    def _retry_after(self, text: str) -> float | None:
        """Seconds, or a date in any of the three forms; the same twice is that, and two that differ are nothing."""
        first, _, second = text.partition(", ") if text[:1].isdigit() else (text, "", "")
        if second and first != second:
            return None
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", first):
            return min(float(first), RETRY_AFTER_SECONDS_MAX)
        dates = [date for date in (self._date(first, form) for form in DATE_FORMS) if date is not None]
        return min(max(dates[0] - self.world.wall(), 0.0), RETRY_AFTER_SECONDS_MAX) if dates else None

    def _date(self, text: str, form: str) -> float | None:
        try:
            date = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            return None
        if "%y" in form:  # never more than 50 years ahead
            year = datetime.fromtimestamp(self.world.wall(), UTC).year
            date = date.replace(year=next(each for each in range(year + 50, 0, -1) if each % 100 == date.year % 100))
        return date.timestamp()
