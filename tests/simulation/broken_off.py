"""What a crash report must say of a run whose recorder failed while it went on: all up to then, and nothing after.

Judged as any crash report is (crashes.py), by what was over before the recorder failed. What went on then is doubted:
whatever was unsettled may have been delivered since.
"""

from typing import Any

from tests.simulation import answer_invariants
from tests.simulation.crashes import CrashReportCheck
from tests.simulation.model import Duty, Posted

EPSILON = 1e-6


class BrokenOffCheck(CrashReportCheck):
    @property
    def broken_at(self) -> float:
        assert self.model.broken_at is not None
        return self.model.broken_at

    @property
    def known_until(self) -> float:
        return self.broken_at + EPSILON

    def _check_summary(self) -> None:
        summary, recorder = self.summary, self.summary["recorder"]
        if (summary["trigger"], summary["run_id"]) != ("crash", self.model.run_id):
            self.fail(f"the summary is {summary}")
        if recorder.get("broken_off") is not True or summary["balanced"]:
            self.fail(f"its recorder failed at {self.broken_at:.3f} s, and it says {recorder}")
        if recorder["unread_bytes"] or recorder["records_missing"]:
            self.fail(f"nothing was torn, and {recorder} is not there")
        if not self.unrecorded:
            answer_invariants.check_sums(self.world, summary, self.undelivered, self.exhausted)

    def _check_counts(self) -> None:
        if self.world.plan.retention_is_tiny:
            return
        posted = list(self.model.posted.values())
        sure = [one for one in posted if one.admitted and any(self._was_open(duty) for duty in one.duties.values())]
        may_be = [one for one in posted if (one.admitted or one.maybe) and self._may_be_known(one)]
        most = sum(max(1, one.maybe) for one in may_be) + sum(one.maybe for one in self.model.nameless.values())
        accepted = self.summary["events"]["accepted"] + self.unrecorded
        if not len(sure) <= accepted <= most:
            self.fail(f"{accepted} accepted; {len(sure)} were when the recorder failed, and {most} may have been")

    def _check_complete(self) -> None:
        """What was owed when it failed is listed, or had settled by then."""
        lost, fresh = set(), 0
        for posted in self.model.posted.values():
            if not posted.admitted or posted.may_be_forgotten:
                continue
            for endpoint_id in posted.endpoints:
                duty = posted.duties.get(endpoint_id)
                listed = (posted.client_id, posted.id, endpoint_id) in self.listed
                if listed or duty is None or not self._was_open(duty) or self._may_have_settled(posted, duty):
                    continue
                lost.add(posted.id)
                fresh += not (duty.is_recovered or posted.is_resent)
        if fresh or len(lost) > self.unrecorded:
            self.fail(f"{lost} were owed when its recorder failed at {self.broken_at:.3f} s, and are not in it")

    def _check_attempts(self) -> None:
        """Not all of them are known to it."""

    def _check_line(self, line: dict[str, Any]) -> None:
        what = f"{line['event_id']} to {line['client_id']}/{line['endpoint_id']}"
        posted = self._posted(line)
        if posted is None or not (posted.admitted or posted.maybe):
            return self.fail(f"{what} is listed, and was not admitted by this run")
        self._check_payload(posted, line, what)
        if posted.may_be_forgotten:
            return None
        duty = posted.duties.get(line["endpoint_id"]) or Duty(first_asked_at=posted.first_asked_at)
        if not self._may_be_known(posted):
            self.fail(f"{what} is listed, and was posted after its recorder had failed at {self.broken_at:.3f} s")
        if duty.was_delivered_before(self.broken_at):
            self.fail(f"{what} is {line['kind']}, and was delivered before the recorder failed")
        self._check_attempt_count(duty, line, what)
        self._check_last_outcome(duty, line, what)
        if line["kind"] == "exhausted":
            endpoint = self.model.registered[posted.client_id, line["endpoint_id"]]
            return answer_invariants.check_reason(self.world, posted, duty, endpoint, line["reason"], what)
        if line["class"] != "outcome_unknown":
            self.fail(f"{what} is {line['class']}: the run went on, and nobody knows")
        return None

    def _check_attempt_count(self, duty: Duty, line: dict[str, Any], what: str) -> None:
        """What began before it failed, and nothing that began later."""
        begun = [number for number, one in duty.attempts.items() if one.begun_at < self.broken_at]
        later = [number for number, one in duty.attempts.items() if one.begun_at > self.broken_at + EPSILON]
        least, most = max(begun, default=duty.carried), min(later, default=1_000_000) - 1
        if not least <= line["attempt_count"] <= most:
            self.fail(f"{what} had {least} attempts when the recorder failed; listed are {line['attempt_count']}")
        crashes = line.get("crash_count", 0)
        if not (0 if duty.retries_sent else duty.crashes) <= crashes <= duty.crashes + 1:
            self.fail(f"{what} was in flight at {crashes} crashes; known are {duty.crashes}")

    def _was_open(self, duty: Duty) -> bool:
        return duty.opened_at is not None and duty.opened_at < self.broken_at

    def _may_be_known(self, posted: Posted) -> bool:
        is_carried = posted.is_resent or any(duty.is_recovered for duty in posted.duties.values())
        return is_carried or posted.first_asked_at <= self.broken_at + EPSILON

    def _may_have_settled(self, posted: Posted, duty: Duty) -> bool:
        read_at = None if duty.delivered is None else duty.delivered.read_at
        if read_at is not None and read_at <= self.broken_at + EPSILON:
            return True
        endpoint_id = next(key for key, one in posted.duties.items() if one is duty)
        endpoint = self.model.registered[posted.client_id, endpoint_id]
        return bool(duty.retries_sent) or self._may_be_given_up(posted, duty, endpoint)
