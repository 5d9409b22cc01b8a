"""SIGKILL with a backlog: the crash report of the next start; then the same with payloads recorded and recovery on."""

import json
import time
from collections import Counter
from collections.abc import Iterator

import msgspec

from hookd.demo.acts.act import Act, counted
from hookd.demo.acts.backlog import CLIENTS, build_backlog
from hookd.demo.receivers import quick
from hookd.demo.stage import DemoFailed, Ids, Stage, ids_of

RECOVERING = {"HOOKD_RECOVERY__ENABLED": "true", "HOOKD_RECORDER__PAYLOADS": "true"}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What a crash report says, beside what is so."""

    owed: Ids  # posted, and never answered 2xx
    listed: Ids
    classes: dict[str, int]
    unknown: Ids  # listed as outcome_unknown
    sent: Ids  # of those owed, what a receiver got and did not answer
    accepted: int
    admitted: int  # the demo's own count of 202s
    balanced: bool

    def differences(self) -> Iterator[str]:
        if self.listed != self.owed:
            yield f"{len(self.owed ^ self.listed)} events are owed and not listed, or listed and not owed"
        if not self.sent <= self.unknown:
            yield f"{len(self.sent - self.unknown)} were sent and not answered, and are not listed as outcome_unknown"
        if not self.balanced or self.accepted != self.admitted:
            yield f"the report does not balance: {self.accepted} accepted, {self.admitted} admitted"


class KillSeen(msgspec.Struct, frozen=True, kw_only=True):
    report: Listed
    has_payloads: bool
    accepted_at_start: int  # by the next daemon
    unasked: int  # requests that it made
    recovering: Listed
    recovered: int  # by the next daemon, with recovery on
    waiting: int  # of these, until their clients were PUT
    delivered: dict[str, int]  # event id -> answers of 2xx

    def figures(self) -> list[str]:
        report, times = self.report, max(self.delivered.values(), default=0)
        taken_back = f"{self.recovered} taken back, {self.waiting} until their client is PUT"
        return [
            f"owed {len(report.owed)}, listed {len(report.listed)}: {counted(report.classes)}",
            f"started again: {self.accepted_at_start} accepted, {self.unasked} requests",
            f"killed again, with recovery on: {len(self.recovering.owed)} owed, {taken_back}",
            f"{len(self.delivered)} events arrived that nobody had to send again, at most {times} time each",
        ]

    def differences(self) -> Iterator[str]:
        yield from self.report.differences()
        if self.has_payloads:
            yield "the crash report holds payloads; the recorder was to note ids and states only"
        if self.accepted_at_start or self.unasked:
            yield f"it did not start empty: {self.accepted_at_start} accepted, {self.unasked} sent unasked"
        yield from self.recovering.differences()
        owed = self.recovering.owed
        if self.recovered != len(owed) or self.waiting != self.recovered:
            yield f"{len(owed)} were owed, {self.recovered} were recovered, {self.waiting} waited for their client"
        if frozenset(self.delivered) != owed or any(count != 1 for count in self.delivered.values()):
            yield f"recovery delivered {len(self.delivered)} events ({self.delivered.values()} times), not those owed"


def _kill(stage: Stage) -> KillSeen:
    stage.stop()
    stage.start()
    report, lines = _killed_with_a_backlog(stage)
    stage.show("nothing is sent unasked: what the killed daemon owed is in the report alone.")
    stage.start()
    accepted_at_start = stage.status()["events"]["accepted"]
    receivers = [stage.client(name, quick) for name in CLIENTS]
    time.sleep(0.3)
    unasked = sum(len(receiver.arrivals) for receiver in receivers)
    stage.stop()

    stage.say("  $ HOOKD_RECOVERY__ENABLED=true HOOKD_RECORDER__PAYLOADS=true hookd run ...")
    stage.start(RECOVERING)
    recovering, _ = _killed_with_a_backlog(stage, RECOVERING)
    stage.show("with recovery on, what was owed is taken back, and delivered once its client is registered.")
    stage.start(RECOVERING)
    status = stage.status()
    receivers = [stage.client(name, quick) for name in CLIENTS]
    stage.wait_settled(CLIENTS)
    return KillSeen(
        report=report,
        has_payloads=any("payload" in line for line in lines),
        accepted_at_start=accepted_at_start,
        unasked=unasked,
        recovering=recovering,
        recovered=status["events"]["recovered"],
        waiting=status["waiting_for_client"],
        delivered=dict(sum((receiver.answered for receiver in receivers), Counter[str]())),
    )


def _killed_with_a_backlog(
    stage: Stage, settings: dict[str, str] | None = None
) -> tuple[Listed, list[dict[str, object]]]:
    """Leaves the daemon that came after it running; returns the crash report that it made, judged."""
    owed, hung = build_backlog(stage, "demo.kill")
    run_id, admitted = stage.status()["run_id"], stage.admitted
    sent = frozenset(arrival.webhook_id for arrival in hung.arrivals)
    stage.show("SIGKILL: nothing was said and nothing written. The next start reads what the flight recorder kept.")
    stage.kill()

    stage.start(settings)
    found = list(stage.reports.glob(f"crash-*-{run_id}.jsonl"))
    if len(found) != 1:
        raise DemoFailed(f"{len(found)} crash reports of run {run_id} in {stage.reports}")
    summary, *lines = [json.loads(line) for line in found[0].read_bytes().splitlines()]
    stage.say(f"  $ hookd report {found[0].name}")
    stage.say_indented(stage.command("report", str(found[0])))
    listed = Listed(
        owed=ids_of(owed) - frozenset(hung.answered),
        listed=frozenset(line["event_id"] for line in lines),
        classes=dict(summary["undelivered"]),
        unknown=frozenset(line["event_id"] for line in lines if line.get("class") == "outcome_unknown"),
        sent=sent,
        accepted=summary["events"]["accepted"],
        admitted=admitted,
        balanced=summary["balanced"],
    )
    return listed, lines


KILL = Act(
    "kill",
    "a SIGKILL loses what is unsettled, and the next start names every event of it in a crash report, by class; "
    "it starts empty. With recorder.payloads and recovery.enabled it takes them back instead, and delivers them.",
    "SIGKILL with a backlog on a hung and a broken receiver, and a new start; then the same with recovery on.",
    _kill,
)
