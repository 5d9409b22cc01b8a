"""What a crash report may and must say, judged by what producers were answered and what went over the wire.

The moment of the crash is the border: what was over before it is known for sure to both sides, what happened in that
very moment may stand in the recorder or not. Where the last record is torn, the report may doubt more; never less.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation import answer_invariants, cancel_invariants, terms_invariants, trait_invariants
from tests.simulation.model import Attempt, Duty, Model, Posted, Registered, same

if TYPE_CHECKING:
    from tests.simulation.world import World

SECRETS = (b"whsec_", b"URL-CANARY")
PAYLOAD = b"PAYLOAD-CANARY"


class CrashReportCheck:
    """One crash report against the model of its run."""

    def __init__(self, world: "World", model: Model, raw: bytes) -> None:
        self.world = world
        self.model = model
        self.raw = raw
        self.summary, *self.lines = [msgspec.json.decode(line) for line in raw.splitlines()]
        self.undelivered = [line for line in self.lines if line["kind"] == "undelivered"]
        self.exhausted = [line for line in self.lines if line["kind"] == "exhausted"]
        self.listed = {(line["client_id"], line["event_id"], line["endpoint_id"]): line for line in self.lines}
        self.unrecorded: int = self.summary["recorder"]["events_unrecorded"]

    @property
    def known_until(self) -> float:
        """What was over later cannot stand in it."""
        return self.model.ended_at

    def fail(self, message: str) -> None:
        self.world.fail("S13", f"crash report of {self.model.run_id}: {message}")

    def check(self) -> None:
        if len(self.listed) != len(self.lines):
            self.fail("a delivery stands in it twice")
        self._check_summary()
        self._check_secrets()
        if self.model.is_shaken:
            return
        for line in self.lines:
            self._check_line(line)
        trait_invariants.check_listed(self.world, self.model.find, self.undelivered, "a crash report")
        self._check_complete()
        self._check_counts()
        self._check_attempts()
        self._count()

    # The whole

    def _check_summary(self) -> None:
        summary, recorder = self.summary, self.summary["recorder"]
        if (summary["trigger"], summary["run_id"]) != ("crash", self.model.run_id):
            self.fail(f"the summary is {summary}")
        is_whole = not recorder["unread_bytes"] and not recorder["records_missing"]
        if not self.model.is_torn and not is_whole:
            self.fail(f"nothing was torn, and {recorder} is not there")
        if summary["balanced"] is not (is_whole and not self.unrecorded):
            self.fail(f"balanced is {summary['balanced']} with {recorder}")
        if not self.unrecorded:
            answer_invariants.check_sums(self.world, summary, self.undelivered, self.exhausted)

    def _check_secrets(self) -> None:
        if any(secret in self.raw for secret in SECRETS):
            self.fail("a secret stands in it")
        if not self.world.settings.recorder.payloads and PAYLOAD in self.raw:
            self.fail("a payload stands in it, and none was recorded")

    def _check_counts(self) -> None:
        """Within what is known for sure, and what may be."""
        if self.world.plan.retention_is_tiny:
            return
        events, deliveries = self.summary["events"], self.summary["deliveries"]
        known = [one for one in self.model.posted.values() if one.admitted]
        maybe = sum(one.maybe for one in (*self.model.posted.values(), *self.model.nameless.values()))
        accepted = events["accepted"] + self.unrecorded
        if not len(known) <= accepted <= len(known) + maybe:
            self.fail(f"{accepted} accepted; {len(known)} are known, and {maybe} may be")
        duties = [duty for one in self.model.posted.values() for duty in one.duties.values()]
        is_unsure = self.model.is_torn or self.model.broken_at is not None
        read = [duty for duty in duties if duty.delivered is not None or (is_unsure and duty.delivered_once)]
        sure = sum(duty.was_delivered_before(self.model.ended_at) for duty in read)
        if not sure - self.unrecorded <= deliveries["delivered"] <= len(read):
            self.fail(f"{deliveries['delivered']} delivered; of {len(read)} a 2xx was read, {sure} before the crash")

    def _check_complete(self) -> None:
        """Every duty has one fate: a 2xx was read, it is listed, or it was given up before, which is counted.

        What was admitted by a 202 had its room in the recorder asked for; only what came over the budgets may lack it.
        """
        lost: Counter[str] = Counter()
        given_up = fresh = 0
        for posted in self.model.posted.values():
            if not posted.admitted or posted.may_be_forgotten:
                continue
            for endpoint_id in posted.endpoints:
                duty = posted.duties.get(endpoint_id, Duty())
                has_2xx = duty.delivered is not None and not duty.is_owed_again
                if (posted.client_id, posted.id, endpoint_id) in self.listed or has_2xx:
                    continue
                if self._may_be_given_up(posted, duty, self.model.registered[posted.client_id, endpoint_id]):
                    given_up += 1
                else:
                    lost[posted.id] += 1
                    fresh += not (duty.is_recovered or posted.is_resent or duty.retries_sent)
        if fresh or len(lost) > self.unrecorded:
            self.fail(f"{dict(lost)} were admitted, have not settled, and are not in it; {self.unrecorded} unrecorded")
        counted = self.summary["deliveries"]["exhausted"] - len(self.exhausted)
        if given_up > counted and not self.unrecorded:
            self.fail(f"{given_up} deliveries are neither delivered nor listed, and {counted} were given up")

    def _may_be_given_up(self, posted: Posted, duty: Duty, endpoint: Registered) -> bool:
        if duty.settled_status == "exhausted" or duty.crashes >= answer_invariants.CRASHES_MAX:
            return True
        if cancel_invariants.may_have_ended(self.world, posted, duty, endpoint.key[1], at=self.model.ended_at):
            return True
        if trait_invariants.may_be_refused(endpoint, duty, at=self.known_until):
            return True
        if endpoint.ever_gone or endpoint.was_removed or endpoint.changes or endpoint.is_changing:
            return True
        if not endpoint.is_registered and not duty.is_recovered:
            return True
        asked_at = posted.first_asked_at if duty.first_asked_at is None else duty.first_asked_at
        if self.model.ended_at - asked_at >= self.world.settings.retry.age_seconds_max - 1e-6:
            return True
        least = max(1 + min((len(one) for one in endpoint.schedules), default=0), duty.carried + 1)
        unseen = sum(not one.exchanges for one in endpoint.history)
        return max(duty.attempts, default=duty.carried) + unseen >= least

    def _check_attempts(self) -> None:
        """All attempts that began on the network, where every duty is accounted for by a line or its 2xx."""
        if self.world.plan.retention_is_tiny or self.unrecorded:
            return
        if self.summary["deliveries"]["exhausted"] != len(self.exhausted):
            return
        said: Counter[tuple[str, str]] = Counter()
        for (client_id, event_id, endpoint_id), line in self.listed.items():
            said[client_id, endpoint_id] += line["attempt_count"]
            posted = self.model.find(client_id, event_id)
            if posted is not None and endpoint_id in posted.duties:
                said[client_id, endpoint_id] -= posted.duties[endpoint_id].carried
        for posted in self.model.posted.values():
            for endpoint_id, duty in posted.duties.items():
                if duty.delivered is not None and (posted.client_id, posted.id, endpoint_id) not in self.listed:
                    said[posted.client_id, endpoint_id] += int(duty.delivered.head["hookd-attempt"]) - duty.carried
        for key, endpoint in self.model.registered.items():
            least, _ = endpoint.begun_for_posted(gets_notices=key[0] == self.world.settings.operations.client)
            if not endpoint.tests_ever and said[key] < least:
                self.fail(f"{least} attempts or more began at {key}; accounted for are {said[key]}")

    def _count(self) -> None:
        self.world.count("crash reports")
        self.world.count("crash reports of a torn recorder", self.model.is_torn)
        self.world.count("crash reports with events unrecorded", bool(self.unrecorded))
        for line in self.undelivered:
            self.world.count(f"in crash reports: {line['class']}")
        self.world.count("in crash reports: exhausted", len(self.exhausted))

    # A line

    def _check_line(self, line: dict[str, Any]) -> None:
        what = f"{line['event_id']} to {line['client_id']}/{line['endpoint_id']}"
        posted = self._posted(line)
        if posted is None or not (posted.admitted or posted.maybe):
            return self.fail(f"{what} is listed, and was not admitted by this run")
        self._check_payload(posted, line, what)
        if line["type"] != posted.type:
            self.fail(f"{what} is of type {posted.type}, not {line['type']}")
        if posted.may_be_forgotten:
            return None
        duty = posted.duties.get(line["endpoint_id"]) or Duty(first_asked_at=posted.first_asked_at)
        if duty.was_delivered_before(self.model.ended_at):
            self.fail(f"{what} is {line['kind']}, and was delivered before the crash")
        known = min((one["attempt_count"] for one in self._taken_up(posted, duty)), default=duty.carried)
        if line["attempt_count"] < max(duty.attempts, default=known):
            self.fail(f"{what} had {max(duty.attempts, default=known)} attempts; listed are {line['attempt_count']}")
        self._check_last_outcome(duty, line, what)
        self._check_crash_count(posted, duty, line, what)
        if line["kind"] == "exhausted":
            return self._check_exhausted(posted, duty, line, what)
        self._check_class(posted, duty, line, what)
        cancel_invariants.check_line(self.world, posted, line, what)
        endpoint = self.model.registered[posted.client_id, line["endpoint_id"]]
        if duty.settled_status is not None and duty.retried_at < 0:
            self.fail(f"{what} was {duty.settled_status} and is undelivered")
        terms_invariants.check_not_expired(self.world, duty, endpoint, what, at=self.model.ended_at)
        return None

    def _posted(self, line: dict[str, Any]) -> Posted | None:
        """One whose id no producer has read is known by its payload; where that is not recorded, by type and expiry."""
        posted = self.model.find(line["client_id"], line["event_id"])
        if posted is not None:
            return posted
        for (client_id, payload), nameless in self.model.nameless.items():
            if client_id != line["client_id"] or nameless.type != line["type"] or not nameless.maybe:
                continue
            if same(payload, line["payload"]) if "payload" in line else self._is_alike(nameless, line):
                return self.model.name(nameless, line["event_id"])
        return None

    def _is_alike(self, nameless: Posted, line: dict[str, Any]) -> bool:
        """Where no other is left that could be meant, it is whatever its line says of its expiry."""
        others = [one for (client_id, _), one in self.model.nameless.items() if client_id == nameless.client_id]
        alike = [one for one in others if one.type == line["type"] and one.maybe]
        meant = [one for one in alike if cancel_invariants.shown(one) == line.get("expires_at")]
        return nameless in (meant or alike)

    def _check_payload(self, posted: Posted, line: dict[str, Any], what: str) -> None:
        if ("payload" in line) is not self.world.settings.recorder.payloads:
            self.fail(f"{what} has {'a' if 'payload' in line else 'no'} payload")
        if "payload" in line and not answer_invariants.is_payload(posted, line):
            self.fail(f"the payload of {what} is not what was posted")

    def _check_last_outcome(self, duty: Duty, line: dict[str, Any], what: str) -> None:
        last = line["last_outcome"]
        if last is None or last["outcome"] is None:
            return
        seen = duty.attempts.get(last["number"])
        answer = None if seen is None else seen.answer
        if (last["outcome"] == "responded") is not (answer is not None) and seen is not None:
            self.fail(f"attempt {last['number']} of {what} is {last['outcome']}, and read was {answer}")
        if last["outcome"] == "responded" and (answer is None or answer.status != last["status_code"]):
            self.fail(f"attempt {last['number']} of {what} was answered {last['status_code']}, and read was {answer}")

    def _taken_up(self, posted: Posted, duty: Duty) -> list[dict[str, Any]]:
        """What the run may have known of it, one or all: it was killed while it took reports up, one by one."""
        return [] if posted.admitted else duty.taken_up

    def _check_crash_count(self, posted: Posted, duty: Duty, line: dict[str, Any], what: str) -> None:
        """One more than it came with where it was in flight."""
        said, most = line.get("crash_count", 0), duty.crashes
        least = min((one.get("crash_count", 0) for one in self._taken_up(posted, duty)), default=most)
        if line["kind"] == "undelivered":
            most += self._may_be_in_flight(duty, line)
            least += self._was_in_flight(duty)
            if duty.retried_at >= 0:  # reopened perhaps
                least = 0
        if not least <= said <= most:
            self.fail(f"{what} was in flight at {said} crashes; known are {least} to {most}")

    def _check_exhausted(self, posted: Posted, duty: Duty, line: dict[str, Any], what: str) -> None:
        endpoint = self.model.registered[posted.client_id, line["endpoint_id"]]
        answer_invariants.check_reason(self.world, posted, duty, endpoint, line["reason"], what)
        answer_invariants.check_maybe_received(self.world, duty, line, what)

    def _check_class(self, posted: Posted, duty: Duty, line: dict[str, Any], what: str) -> None:
        unanswered = [one for one in duty.attempts.values() if one.answer is None]
        must_be_unknown = duty.carried_unknown or any(one.has_sent or one.was_answered for one in unanswered)
        must_be_unknown |= any(one.was_sent_in_vain for one in duty.attempts.values())
        may_be_unknown = must_be_unknown or any(one.may_have_sent for one in unanswered)
        may_be_unknown |= any(one.may_have_been_sent_in_vain for one in duty.attempts.values())
        may_be_unknown |= self.model.is_torn or self._may_be_in_flight(duty, line)
        is_known = "attempted_failed" if line["attempt_count"] else "never_attempted"
        allowed = (
            {"outcome_unknown"} if must_be_unknown else {is_known, "outcome_unknown"} if may_be_unknown else {is_known}
        )
        allowed |= {one["class"] for one in self._taken_up(posted, duty)}
        if line["class"] not in allowed:
            self.fail(f"{what} is {line['class']} after {line['attempt_count']} attempts; known is {sorted(allowed)}")

    def _may_be_in_flight(self, duty: Duty, line: dict[str, Any]) -> bool:
        """At the crash; one that has not come to the network yet among them."""
        if line["attempt_count"] > max(duty.attempts, default=duty.carried):
            return True
        return any(self._may_be_open(one) for one in duty.attempts.values())

    def _was_in_flight(self, duty: Duty) -> bool:
        exchanges = [exchange for one in duty.attempts.values() for exchange in one.exchanges]
        return any(one.was_killed and one.begun_at < self.model.ended_at - 1e-9 for one in exchanges)

    def _may_be_open(self, attempt: Attempt) -> bool:
        return attempt.was_cut or attempt.is_open or attempt.ended_at() >= self.model.ended_at - 1e-9
