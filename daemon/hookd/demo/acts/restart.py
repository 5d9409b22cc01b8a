"""SIGTERM with a backlog: the drain, the report, a new start with nothing, and `hookd resend` of what was left."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hookd.cli.api_client import Answer
from hookd.demo.acts.act import Act, counted
from hookd.demo.acts.backlog import CLIENTS, build_backlog
from hookd.demo.pace import DRAIN_SECONDS, EXIT_GRACE_SECONDS
from hookd.demo.receivers import quick
from hookd.demo.stage import DemoFailed, Ids, Stage, event_body, ids_of


class RestartSeen(msgspec.Struct, frozen=True, kw_only=True):
    owed: Ids  # posted, and never answered 2xx
    listed: Ids  # in the report
    classes: dict[str, int]
    admitted: int  # the demo's own count of 202s
    accepted: int  # the report's
    balanced: bool
    exit_code: int
    exit_seconds: float
    refusal: str
    accepted_at_start: int  # by the second daemon, before anything was sent again
    unasked: int  # requests before `resend`
    resent: dict[str, int]  # event id -> answers of 2xx
    said: list[str]  # what `hookd resend` printed, and what it printed the second time

    def figures(self) -> list[str]:
        totals = f"{self.accepted} accepted, as many as 202s counted here" if self.accepted == self.admitted else ""
        totals = totals or f"{self.accepted} accepted, and {self.admitted} 202s counted here"
        times = max(self.resent.values(), default=0)
        return [
            f"stopped after {self.exit_seconds:.1f} s with exit code {self.exit_code}; meanwhile: {self.refusal}",
            f"owed {len(self.owed)}, listed {len(self.listed)}: {counted(self.classes)}",
            f"the report: {totals}; {'it balances' if self.balanced else 'it does not balance'}",
            f"started again: {self.accepted_at_start} accepted, {self.unasked} requests before `resend`",
            f"resend: {', '.join(self.said)} (run twice); {len(self.resent)} events arrived, at most {times} time each",
        ]

    def differences(self) -> Iterator[str]:
        if self.exit_code != 3:
            yield f"the exit code is {self.exit_code}, not 3"
        if self.exit_seconds > DRAIN_SECONDS + EXIT_GRACE_SECONDS:
            yield f"it took {self.exit_seconds:.1f} s; drain.timeout is {DRAIN_SECONDS:g} s"
        if "draining" not in self.refusal:
            yield f"an event posted during the drain was answered {self.refusal}"
        if self.listed != self.owed or sum(self.classes.values()) != len(self.owed):
            yield f"{len(self.owed ^ self.listed)} events are owed and not listed, or listed and not owed"
        if not self.balanced or self.accepted != self.admitted:
            yield f"the report does not balance: {self.accepted} accepted, {self.admitted} admitted"
        if self.accepted_at_start or self.unasked:
            yield f"it did not start empty: {self.accepted_at_start} accepted, {self.unasked} sent unasked"
        if frozenset(self.resent) != self.owed or any(count != 1 for count in self.resent.values()):
            yield f"resend delivered {len(self.resent)} events ({sum(self.resent.values())} times), not those owed"
        if self.said != [f"admitted: {len(self.owed)}", f"known: {len(self.owed)}"]:
            yield f"resend said {self.said}"


def _restart(stage: Stage) -> RestartSeen:
    owed = build_backlog(stage, "demo.restart").owed
    run_id, admitted = stage.status()["run_id"], stage.admitted
    refusal, exit_code, exit_seconds = _stopped(stage)
    answered = {event_id for name in ("hung", "broken") for event_id in stage.receivers[name].answered}

    stage.show(f"the daemon has ended, with exit code {exit_code}. Its report names all that it owes.")
    path = _report_of(run_id, stage)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    summary, listed = lines[0], [line for line in lines if line["kind"] == "undelivered"]
    stage.say(f"  $ hookd report {path.name}")
    stage.say_indented(stage.command("report", str(path)))

    stage.start()
    accepted_at_start = stage.status()["events"]["accepted"]
    receivers = [stage.client(name, quick) for name in CLIENTS]
    time.sleep(0.3)
    unasked = sum(len(receiver.arrivals) for receiver in receivers)
    stage.show("a new daemon began with nothing. `hookd resend` gives it what the report lists.")
    stage.say(f"  $ hookd resend {path.name} --url {stage.url}")
    said = [_resend_all(path, stage), _resend_all(path, stage)]
    return RestartSeen(
        owed=ids_of(owed) - answered,
        listed=frozenset(line["event_id"] for line in listed),
        classes=dict(summary["undelivered"]),
        admitted=admitted,
        accepted=summary["events"]["accepted"],
        balanced=summary["balanced"],
        exit_code=exit_code,
        exit_seconds=exit_seconds,
        refusal=refusal,
        accepted_at_start=accepted_at_start,
        unasked=unasked,
        resent=dict(sum((receiver.answered for receiver in receivers), Counter[str]())),
        said=said,
    )


def _stopped(stage: Stage) -> tuple[str, int, float]:
    """What an event was answered during the drain, the exit code, and how long it took."""
    stage.show(f"SIGTERM: the daemon drains for {DRAIN_SECONDS:g} s. New events get 503, what is in flight may finish.")
    asked = time.monotonic()
    stage.terminate()
    stage.wait(lambda: stage.status()["state"] == "draining", "the daemon to say that it drains")
    refused = stage.remote.post("/v1/clients/healthy/events", event_body("demo.restart", b"{}"))
    refusal = "202" if refused.status == 202 else f"{refused.status} {_slug(refused)}"
    return refusal, stage.stop(), time.monotonic() - asked


def _report_of(run_id: str, stage: Stage) -> Path:
    found = list(stage.reports.glob(f"shutdown-*-{run_id}.jsonl"))
    if len(found) != 1:
        raise DemoFailed(f"{len(found)} reports of run {run_id} in {stage.reports}")
    return found[0]


def _resend_all(path: Path, stage: Stage) -> str:
    """What the command prints. Everything that it sent is settled then."""
    said = stage.command("resend", str(path), "--url", stage.url).strip()
    stage.wait_settled(["hung", "broken"])
    return said


def _slug(answer: Answer) -> str:
    return str(answer.body.get("type", "")).rpartition("/")[2] if isinstance(answer.body, dict) else ""


RESTART = Act(
    "restart",
    f"on SIGTERM no new 202, up to drain.timeout ({DRAIN_SECONDS:g} s here) to finish, then a report that names "
    "every undelivered delivery and balances; exit code 3. A restart starts empty; resend delivers what was left.",
    "SIGTERM with a backlog on a hung and a broken receiver; then the report, a new start, and resend.",
    _restart,
)
