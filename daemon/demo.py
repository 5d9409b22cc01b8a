"""Owns `hookd demo`: each promise of the README said, put to the test against the real daemon, and judged.

The daemon is a child process, spoken to over its HTTP API and its command line only; the receivers are threads of
this process and keep their own record, so that what the daemon says is held against what arrived.

Rules: an act first observes (`_slow`, `_down`, …: a frozen `…Seen`) and then compares: `differences` is pure, and
where it yields anything the demo exits 1. Every wait is bounded. Only the child it started is ever stopped.
Does not: touch anything but loopback and a temporary folder, which stays only where something differed.
"""

import base64
import hashlib
import hmac
import itertools
import json
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import msgspec

from daemon import __version__
from daemon.remote import Answer, Remote, Unreachable

# The child's settings: the defaults' shape at the pace of a demo.
SCHEDULE_SECONDS = (0.2, 0.4, 0.6, 0.8)
ATTEMPTS_MAX = 1 + len(SCHEDULE_SECONDS)
TIMEOUT_SECONDS = 1.0
CONCURRENCY = 4
DRAIN_SECONDS = 2.0
SETTINGS = {
    "HOOKD_RETRY__SCHEDULE": json.dumps([f"{delay:g}s" for delay in SCHEDULE_SECONDS]),
    "HOOKD_DELIVERY__TIMEOUT": f"{TIMEOUT_SECONDS:g}s",
    "HOOKD_DELIVERY__CONCURRENCY": str(CONCURRENCY),
    "HOOKD_DRAIN__TIMEOUT": f"{DRAIN_SECONDS:g}s",
}
# An exit later than this after the drain's end breaks the promise.
EXIT_GRACE_SECONDS = 2.0

START_SECONDS_MAX = 20.0
SETTLE_SECONDS_MAX = 15.0
COMMAND_SECONDS_MAX = 30.0
HANG_SECONDS_MAX = 20.0  # how long a hanging receiver waits for the daemon to hang up
LOOK_EVERY_SECONDS = 0.02
TRAFFIC_SECONDS = 3
TRAFFIC_EVERY_SECONDS = 0.1
SIGNATURE_AGE_SECONDS_MAX = 300  # Standard Webhooks' tolerance
LOG_LINES_SHOWN = 15

Ids = frozenset[str]


class DemoFailed(Exception):
    """An act could not be played to its end; the message says where it stopped."""


class _Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP to the demo: the same way out as Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Seen(Protocol):
    """What an act observed."""

    def figures(self) -> list[str]: ...

    def differences(self) -> Iterator[str]: ...


class Act(NamedTuple):
    name: str
    promise: str
    does: str
    observe: Callable[["Stage"], Seen]


def run_demo(*, seconds: int | None, plain: bool, act: str | None) -> int:
    """All acts, or one; `seconds` is how long the traffic before them lasts (one act alone has none by default).

    Returns 0 where every promise held, 1 where one did not, 128 + N after signal N.
    """
    acts = [one for one in ACTS if act in (None, one.name)]
    if act is None or seconds is not None:
        acts.insert(0, _traffic_act(seconds or TRAFFIC_SECONDS))
    handlers = {number: signal.signal(number, _raise_stopped) for number in (signal.SIGTERM, signal.SIGHUP)}
    stage = Stage(Path(tempfile.mkdtemp(prefix="hookd-demo-")), colours=not plain and _may_colour())
    code = 1
    try:
        code = play(acts, stage)
    except KeyboardInterrupt as stopped:
        code = 128 + (stopped.number if isinstance(stopped, _Stopped) else signal.SIGINT)
        _say_stopped(stage)
    except (DemoFailed, Unreachable) as failed:
        stage.say(f"the demo cannot go on: {failed}")
        stage.say_log()
    finally:
        stage.close(keep=code == 1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def play(acts: Sequence[Act], stage: "Stage") -> int:
    """From the daemon's start to its stop; the demo's exit code."""
    stage.start()
    _say_head(stage)
    differing = perform(acts, stage)
    exit_code = stage.stop()
    stage.say(f"The daemon was stopped with SIGTERM: exit code {exit_code}.")
    if exit_code and not differing:
        stage.say_verdict([f"nothing is left undelivered, and the exit code is {exit_code}"])
        differing = ["stop"]
    if differing:
        stage.say(f"{len(differing)} of {len(acts)} differ from the promise: {', '.join(differing)}")
        return 1
    stage.say(f"All {len(acts)} promises hold.\n" if len(acts) > 1 else "The promise holds.\n")
    _say_how_to_run(stage)
    return 0


def perform(acts: Sequence[Act], stage: "Stage") -> list[str]:
    """Plays the acts in turn; returns the names of those that differ from what they promise."""
    differing = []
    for act in acts:
        stage.say(f"--- {act.name} {'-' * (75 - len(act.name))}")
        stage.say_lines("promise: ", act.promise)
        stage.say_lines("doing:   ", act.does)
        try:
            stage.start()
            seen = act.observe(stage)
        except (DemoFailed, Unreachable, subprocess.TimeoutExpired) as failed:
            found = [f"it could not be played to its end: {failed}"]
        else:
            for figure in seen.figures():
                stage.say(f"seen:    {figure}")
            found = list(seen.differences())
        stage.say_verdict(found)
        if found:
            differing.append(act.name)
            stage.say_log()
    return differing


# --- the acts -------------------------------------------------------------------------------------------------


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """The healthy client that is served beside a misbehaving one."""

    posted: int
    delivered: int
    slowest_seconds: float  # from before the POST to the arrival

    def figure(self) -> str:
        slowest = f"the slowest {self.slowest_seconds * 1000:.0f} ms after it was posted"
        return f"healthy: {self.delivered} of {self.posted} delivered meanwhile, {slowest}"

    def differences(self) -> Iterator[str]:
        if self.delivered != self.posted:
            yield f"{self.posted - self.delivered} events of the healthy client did not arrive"
        if self.slowest_seconds >= TIMEOUT_SECONDS:
            yield f"an event of the healthy client took {self.slowest_seconds:.1f} s: it waited for its neighbour"


class TrafficSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    posted: dict[str, int]
    statuses: dict[str, dict[str, int]]  # client -> status -> events
    unbalanced: int
    looks: int

    def figures(self) -> list[str]:
        ended = [
            f"{client}: {self.posted[client]} posted = {_counted(found)}" for client, found in self.statuses.items()
        ]
        return [self.neighbour.figure(), *ended, f"the daemon's totals balanced at {self.looks} looks"]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        for client, found in self.statuses.items():
            allowed = {"delivered", "exhausted"} if client == "down" else {"delivered"}
            if set(found) - allowed or sum(found.values()) != self.posted[client]:
                yield f"{client}: {self.posted[client]} admitted, and they ended as {found}"
        if self.unbalanced:
            yield f"the totals did not balance at {self.unbalanced} looks"


def _traffic(stage: "Stage", seconds: int) -> TrafficSeen:
    receivers = {
        "healthy": stage.client("healthy", quick),
        "slow": stage.client("slow", lambda _number, _refused: Reply(after_seconds=0.45)),
        "flaky": stage.client("flaky", flaky),
        "down": stage.client("down", quick, up=False),
    }
    posted: dict[str, list[Posted]] = {client: [] for client in receivers}
    looks: list[bool] = []
    began = time.monotonic()
    look_at = itertools.count(began + min(seconds / 2, 5), min(seconds / 2, 5))
    next_look = next(look_at)
    while (now := time.monotonic()) < began + seconds:
        for client, events in posted.items():
            events.append(stage.post(client, f"demo.{client}"))
        if now >= next_look:
            next_look = next(look_at)
            looks.append(_say_clients(stage, receivers, posted, now - began))
        time.sleep(TRAFFIC_EVERY_SECONDS)
    looks.append(_say_clients(stage, receivers, posted, seconds))
    receivers["slow"].behave = quick
    receivers["down"].come_up()
    for event in stage.events("down", status="failed")[:100]:  # now, and not when a pause of the endpoint ends
        stage.ask(202, 200).post(f"/v1/clients/down/events/{event['id']}/retry", b"")
    stage.wait_settled(receivers)
    looks.append(_say_clients(stage, receivers, posted, time.monotonic() - began))
    return TrafficSeen(
        neighbour=_neighbour(receivers["healthy"], posted["healthy"]),
        posted={client: len(events) for client, events in posted.items()},
        statuses={client: stage.statuses(client, events) for client, events in posted.items()},
        unbalanced=looks.count(False),
        looks=len(looks),
    )


def _say_clients(
    stage: "Stage", receivers: Mapping[str, "Receiver"], posted: Mapping[str, Sequence["Posted"]], seconds: float
) -> bool:
    """The clients as they stand; whether the daemon's totals balance."""
    stage.say(f"  after {seconds:4.1f} s  state      posted  answered 2xx  unsettled  in flight  last outcome")
    for client, receiver in receivers.items():
        health = stage.health(client)
        last = health["last_outcome"] or {}
        stage.say(
            f"    {client:<10}  {health['state']:<9}{len(posted[client]):>8}{len(receiver.answered):>14}"
            f"{health['unsettled']:>11}{health['in_flight']:>11}  {last.get('status_code') or last.get('outcome', '-')}"
        )
    return is_balanced(stage.status()["events"])


class SlowSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    posted: Ids
    timed_out: Ids  # those with an attempt that timed out
    attempts_timed_out: int
    in_flight_max: int  # as the daemon says
    at_once_max: int  # as arrived at the receiver, within less than the timeout
    delivered: Ids  # as the receiver answered
    statuses: dict[str, int]
    recovery_seconds: float

    def figures(self) -> list[str]:
        at_once = f"at most {self.in_flight_max} in flight (the receiver: {self.at_once_max}) of {CONCURRENCY}"
        again = f"{len(self.delivered)} of {len(self.posted)} delivered in {self.recovery_seconds:.1f} s"
        return [
            self.neighbour.figure(),
            f"slow: {len(self.posted)} events, {self.attempts_timed_out} attempts timed out, {at_once}",
            f"quick again: {again}, under their own webhook-ids",
        ]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        if max(self.in_flight_max, self.at_once_max) > CONCURRENCY:
            yield f"{max(self.in_flight_max, self.at_once_max)} in flight at once; concurrency is {CONCURRENCY}"
        if self.timed_out != self.posted:
            yield f"{len(self.posted - self.timed_out)} events of the hanging receiver never timed out"
        if self.delivered != self.posted or self.statuses != {"delivered": len(self.posted)}:
            yield f"of {len(self.posted)} events {len(self.delivered)} arrived, and the daemon says {self.statuses}"


def _slow(stage: "Stage") -> SlowSeen:
    healthy, slow = stage.client("healthy", quick), stage.client("slow", hang)
    events = [stage.post("slow", "demo.slow") for _ in range(2 * CONCURRENCY)]
    in_flight: list[int] = []
    neighbours = _post_for(2.2, stage, "healthy", each=lambda: in_flight.append(stage.health("slow")["in_flight"]))
    slow.behave = quick
    switched = time.monotonic()
    hung = [arrival.at for arrival in slow.arrivals if arrival.at < switched]
    stage.wait_settled(["healthy", "slow"])
    recovered = time.monotonic()
    timed_out = Counter(
        event["id"]
        for event in stage.named("slow", events)
        for attempt in event["deliveries"][0]["attempts"]
        if attempt["outcome"] == "timed_out"
    )
    return SlowSeen(
        neighbour=_neighbour(healthy, neighbours),
        posted=_ids(events),
        timed_out=frozenset(timed_out),
        attempts_timed_out=timed_out.total(),
        in_flight_max=max(in_flight),
        at_once_max=most_within(hung, TIMEOUT_SECONDS * 0.7),
        delivered=frozenset(slow.answered),
        statuses=stage.statuses("slow", events),
        recovery_seconds=recovered - switched,
    )


class DownSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    given_up: dict[str, Any]  # the first event's delivery, exhausted
    in_time: dict[str, Any]  # that of an event that was waiting when the receiver came up
    later: dict[str, Any]
    retried: dict[str, Any]  # the first one again, after `POST …/retry`
    arrived: dict[str, list[int]]  # event id -> the attempt numbers that arrived
    posted: list[str]  # ids: given up, in time, later

    def figures(self) -> list[str]:
        attempted = _counted(Counter(attempt["outcome"] for attempt in self.given_up["attempts"]))
        return [
            self.neighbour.figure(),
            f"down: the first event is {self.given_up['status']} ({self.given_up['reason']}) after {attempted}",
            f"up again: the one that waited is {_at_attempt(self.in_time)}, a new one {_at_attempt(self.later)}",
            f"POST .../retry of the first: {_at_attempt(self.retried)}",
            f"the receiver got {sum(map(len, self.arrived.values()))} requests under {len(self.arrived)} webhook-ids",
        ]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        found = (self.given_up["status"], self.given_up["reason"], self.given_up["attempt_count"])
        if found != ("exhausted", "attempts_used", ATTEMPTS_MAX):
            yield f"the first event is {found}; promised: exhausted, attempts_used, {ATTEMPTS_MAX}"
        if any(one["outcome"] != "unreachable" or one["request_sent"] for one in self.given_up["attempts"]):
            yield "an attempt at a closed port is not told as unreachable and unsent"
        for name, delivery in (("waiting", self.in_time), ("new", self.later), ("retried", self.retried)):
            if delivery["status"] != "delivered":
                yield f"the receiver is up, and the {name} event is {delivery['status']}"
        last = [delivery["attempt_count"] for delivery in (self.retried, self.in_time, self.later)]
        expected = {event_id: [number] for event_id, number in zip(self.posted, last, strict=True)}
        if self.arrived != expected:
            yield f"attempts arrived as {self.arrived}, not as {expected}"


def _down(stage: "Stage") -> DownSeen:
    healthy, down = stage.client("healthy", quick), stage.client("down", quick, up=False)
    first = stage.post("down", "demo.down")
    neighbours = _post_for(1.5, stage, "healthy")
    stage.wait(lambda: stage.event("down", first)["settled_at"] is not None, "the first event to be given up")
    given_up = stage.delivery("down", first)
    second = stage.post("down", "demo.down")
    stage.wait(lambda: stage.delivery("down", second)["status"] == "failed", "a failed attempt of the second event")
    down.come_up()
    later = stage.post("down", "demo.down")
    stage.wait_settled(["down", "healthy"])
    in_time, new = stage.delivery("down", second), stage.delivery("down", later)
    stage.ask(202).post(f"/v1/clients/down/events/{first.id}/retry", b"")
    stage.wait_settled(["down"])
    arrived: dict[str, list[int]] = {}
    for arrival in down.arrivals:
        arrived.setdefault(arrival.webhook_id, []).append(arrival.attempt_number)
    return DownSeen(
        neighbour=_neighbour(healthy, neighbours),
        given_up=given_up,
        in_time=in_time,
        later=new,
        retried=stage.delivery("down", first),
        arrived=arrived,
        posted=[first.id, second.id, later.id],
    )


class FlakySeen(msgspec.Struct, frozen=True, kw_only=True):
    posted: Ids
    statuses: dict[str, int]
    arrived: Ids
    refused: int  # answered 503
    delivered: int  # answered 2xx
    attempt_count: int  # as the daemon says
    unverified: int
    altered: int  # arrived with another body than was posted

    def figures(self) -> list[str]:
        requests = f"{self.refused + self.delivered} requests, {self.refused} of them answered 503"
        verified = self.refused + self.delivered - self.unverified
        return [
            f"flaky: {len(self.posted)} events, {requests}; the daemon counts {self.attempt_count} attempts",
            f"ended as {_counted(self.statuses)}, under {len(self.arrived)} webhook-ids",
            f"signatures: {verified} verified (v1, HMAC-SHA256), {self.unverified} not; bodies altered: {self.altered}",
        ]

    def differences(self) -> Iterator[str]:
        if self.statuses != {"delivered": len(self.posted)}:
            yield f"not everything is delivered: {self.statuses}"
        if self.arrived != self.posted:
            yield f"{len(self.posted ^ self.arrived)} webhook-ids are not those of the events posted"
        if self.delivered < len(self.posted):
            yield f"{len(self.posted)} events and only {self.delivered} answers of 200"
        if not self.refused:
            yield "nothing was refused, so nothing was shown"
        if self.attempt_count != self.refused + self.delivered:
            yield f"{self.attempt_count} attempts counted, {self.refused + self.delivered} arrived"
        if self.unverified or self.altered:
            yield f"{self.unverified} signatures do not verify, {self.altered} bodies differ"


def _flaky(stage: "Stage") -> FlakySeen:
    receiver = stage.client("flaky", flaky)
    events = [stage.post("flaky", "demo.flaky") for _ in range(24)]
    stage.wait_settled(["flaky"])
    bodies = {event.id: event.payload for event in events}
    arrivals = receiver.arrivals
    return FlakySeen(
        posted=_ids(events),
        statuses=stage.statuses("flaky", events),
        arrived=frozenset(arrival.webhook_id for arrival in arrivals),
        refused=receiver.refused.total(),
        delivered=receiver.answered.total(),
        attempt_count=sum(event["deliveries"][0]["attempt_count"] for event in stage.named("flaky", events)),
        unverified=sum(not arrival.verified for arrival in arrivals),
        altered=sum(arrival.body != bodies.get(arrival.webhook_id) for arrival in arrivals),
    )


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
            f"owed {len(self.owed)}, listed {len(self.listed)}: {_counted(self.classes)}",
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


def _restart(stage: "Stage") -> RestartSeen:
    stage.client("healthy", quick)
    stage.client("hung", hang)
    broken = stage.client("broken", lambda _number, _refused: Reply(500), schedule=["1m"])
    for _ in range(5):
        stage.post("healthy", "demo.restart")
    owed = [stage.post("hung", "demo.restart") for _ in range(4 * CONCURRENCY)]
    owed += [stage.post("broken", "demo.restart") for _ in range(3)]
    stage.wait_settled(["healthy"])
    stage.wait(lambda: broken.refused.total() == 3 and stage.health("hung")["in_flight"] > 0, "the backlog to build up")

    run_id, admitted = stage.status()["run_id"], stage.admitted
    asked = time.monotonic()
    stage.terminate()
    stage.wait(lambda: stage.status()["state"] == "draining", "the daemon to say that it drains")
    refused = stage.remote.post("/v1/clients/healthy/events", _event_body("demo.restart", b"{}"))
    refusal = "202" if refused.status == 202 else f"{refused.status} {_slug(refused)}"
    exit_code = stage.stop()
    exit_seconds = time.monotonic() - asked
    answered = {event_id for name in ("hung", "broken") for event_id in stage.receivers[name].answered}

    found = list(stage.reports.glob(f"shutdown-*-{run_id}.jsonl"))
    if len(found) != 1:
        raise DemoFailed(f"{len(found)} reports of run {run_id} in {stage.reports}")
    lines = [json.loads(line) for line in found[0].read_bytes().splitlines()]
    summary, listed = lines[0], [line for line in lines if line["kind"] == "undelivered"]
    stage.say(f"  $ hookd report {found[0].name}")
    stage.say_indented(stage.command("report", str(found[0])))

    stage.start()
    accepted_at_start = stage.status()["events"]["accepted"]
    receivers = [stage.client(name, quick) for name in ("healthy", "hung", "broken")]
    time.sleep(0.3)
    unasked = sum(len(receiver.arrivals) for receiver in receivers)
    stage.say(f"  $ hookd resend {found[0].name} --url {stage.url}")
    said = [stage.command("resend", str(found[0]), "--url", stage.url).strip()]
    stage.wait_settled(["hung", "broken"])
    said.append(stage.command("resend", str(found[0]), "--url", stage.url).strip())
    stage.wait_settled(["hung", "broken"])
    return RestartSeen(
        owed=_ids(owed) - answered,
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


ACTS = (
    Act(
        "slow",
        "one client's endpoint, whatever it does, does not delay another's. The slow one has at most its concurrency "
        "in flight; its events time out, are retried, and are delivered once it is quick again.",
        "one receiver accepts requests and never answers, another is healthy; then the first is quick.",
        _slow,
    ),
    Act(
        "down",
        f"an event is attempted at most {ATTEMPTS_MAX} times here, always under its own webhook-id, and is then "
        "exhausted, saying why, or delivered if the receiver comes back in time. Retry reopens it. Nobody else waits.",
        "a receiver's port is closed; it opens after one event is given up and while another waits.",
        _down,
    ),
    Act(
        "flaky",
        "every admitted event is delivered at least once, after retries, always under the same webhook-id, and the "
        "signature verifies (Standard Webhooks v1).",
        "a receiver answers 503 every other time, to no event more than twice, and verifies what it gets.",
        _flaky,
    ),
    Act(
        "restart",
        f"on SIGTERM no new 202, up to drain.timeout ({DRAIN_SECONDS:g} s here) to finish, then a report that names "
        "every undelivered delivery and balances; exit code 3. A restart starts empty; resend delivers what was left.",
        "SIGTERM with a backlog on a hung and a broken receiver; then the report, a new start, and resend.",
        _restart,
    ),
)


def _traffic_act(seconds: int) -> Act:
    return Act(
        "traffic",
        "while the process lives, every admitted event is attempted until it is delivered or given up, and the totals "
        "balance at every moment. Nobody waits for another's endpoint.",
        f"{seconds} s of events for a healthy, a slow, a flaky and a dead receiver; then the last two mend.",
        lambda stage: _traffic(stage, seconds),
    )


# --- pure -----------------------------------------------------------------------------------------------------


def verifies(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """The receiver's side of Standard Webhooks 1.0, as any client would write it."""
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(now - int(timestamp)) > SIGNATURE_AGE_SECONDS_MAX:
        return False
    content = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256)
    expected = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(expected, one) for one in headers.get("webhook-signature", "").split(" "))


def is_balanced(events: Mapping[str, int]) -> bool:
    return events["accepted"] == sum(events[word] for word in ("pending", "failed", "delivered", "exhausted"))


def most_within(times: Iterable[float], seconds: float) -> int:
    """How many of these times fall, at most, within so many seconds."""
    ordered = sorted(times)
    return max((sum(start <= at < start + seconds for at in ordered) for start in ordered), default=0)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _at_attempt(delivery: Mapping[str, Any]) -> str:
    return f"{delivery['status']} at attempt {delivery['attempt_count']}"


def _ids(events: Iterable["Posted"]) -> Ids:
    return frozenset(event.id for event in events)


def _neighbour(receiver: "Receiver", events: Sequence["Posted"]) -> Neighbour:
    arrived: dict[str, float] = {}
    for arrival in receiver.arrivals:
        arrived.setdefault(arrival.webhook_id, arrival.at)
    waits = [arrived[event.id] - event.at for event in events if event.id in arrived]
    delivered = sum(event.id in receiver.answered for event in events)
    return Neighbour(posted=len(events), delivered=delivered, slowest_seconds=max(waits, default=math.inf))


def _event_body(event_type: str, payload: bytes) -> bytes:
    return msgspec.json.encode({"type": event_type, "payload": msgspec.Raw(payload)})


def _slug(answer: Answer) -> str:
    return str(answer.body.get("type", "")).rpartition("/")[2] if isinstance(answer.body, dict) else ""


# --- the receivers --------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    status: int = 200
    after_seconds: float = 0.005


# Of a request: which one it is at this receiver (from 0), and how often its event was answered other than 2xx before.
Behaviour = Callable[[int, int], Reply]


def quick(_number: int, _refused: int) -> Reply:
    return Reply()


def hang(_number: int, _refused: int) -> Reply:
    return Reply(after_seconds=HANG_SECONDS_MAX)


def flaky(number: int, refused: int) -> Reply:
    return Reply(503 if number % 2 == 0 and refused < 2 else 200)


class Arrival(NamedTuple):
    at: float
    webhook_id: str
    attempt_number: int
    body: bytes
    verified: bool


class Receiver(ThreadingHTTPServer):
    """One client's webhook receiver on a port of its own, with a record of what came. `behave` may be changed."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behave: Behaviour, *, up: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.behave = behave
        self.secret = ""
        self.arrivals: list[Arrival] = []
        self.answered: Counter[str] = Counter()  # webhook-id -> answers of 2xx
        self.refused: Counter[str] = Counter()  # and of anything else
        self._lock = threading.Lock()
        self._is_up = False
        self.server_bind()  # bound, and not listening yet: connections are refused and nobody else gets the port
        if up:
            self.come_up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def come_up(self) -> None:
        self._is_up = True
        self.server_activate()
        threading.Thread(target=self.serve_forever, args=(LOOK_EVERY_SECONDS,), daemon=True).start()

    def close(self) -> None:
        if self._is_up:
            self.shutdown()
        self.server_close()

    def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        event_id = headers.get("webhook-id", "")
        verified = verifies(self.secret, headers, body, now=time.time())
        with self._lock:
            number = len(self.arrivals)
            attempt_number = int(headers.get("hookd-attempt", "0"))
            self.arrivals.append(Arrival(time.monotonic(), event_id, attempt_number, body, verified))
            return self.behave(number, self.refused[event_id])

    def note_answer(self, event_id: str, status: int) -> None:
        with self._lock:
            (self.answered if 200 <= status < 300 else self.refused)[event_id] += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the daemon hangs up on a timeout: that is no error here
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.take(headers, body)
        if _hangs_up_within(self.connection, reply.after_seconds):
            self.close_connection = True
            return
        # Noted first: the daemon may have the answer, and tell of it, before this thread runs again.
        self.server.note_answer(headers.get("webhook-id", ""), reply.status)
        self.send_response(reply.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name for it
        """Says nothing: what matters is in `arrivals`."""


def _hangs_up_within(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


# --- the stage ------------------------------------------------------------------------------------------------


class Posted(NamedTuple):
    id: str
    at: float  # just before it was posted
    payload: bytes


class Asked:
    """Requests of which only these statuses are expected; anything else ends the act."""

    def __init__(self, remote: Remote, statuses: tuple[int, ...]) -> None:
        self._remote = remote
        self._statuses = statuses

    def get(self, path: str) -> Any:
        return self._checked("GET", path, self._remote.get(path))

    def post(self, path: str, body: bytes) -> Any:
        return self._checked("POST", path, self._remote.post(path, body))

    def put(self, path: str, body: bytes) -> Any:
        return self._checked("PUT", path, self._remote.put(path, body))

    def _checked(self, method: str, path: str, answer: Answer) -> Any:
        if answer.status not in self._statuses:
            raise DemoFailed(f"{method} {path} was answered {answer.problem}")
        return answer.body


class Stage:
    """The daemon's process, the receivers, the folder, and the words: what every act needs."""

    def __init__(self, directory: Path, *, colours: bool) -> None:
        self.directory = directory
        self.reports = directory / "reports"
        self.receivers: dict[str, Receiver] = {}
        self.admitted = 0  # answers of 202 by the daemon that runs now
        self.url = ""
        self.pid = 0
        self._log = directory / "daemon.log"
        self._colours = colours
        self._process: subprocess.Popen[str] | None = None
        self._is_stopping = False
        self._numbers = itertools.count(1)

    @property
    def remote(self) -> Remote:
        return Remote(self.url)

    def start(self) -> None:
        """Starts the daemon where none runs; returns once it accepts requests."""
        if self._process is not None and self._process.poll() is None:
            return
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HOOKD_")} | SETTINGS
        command = [sys.executable, "-m", "daemon", "run", "--dev", "--bind", "127.0.0.1:0"]
        command += ["--reports", str(self.reports)]
        with self._log.open("ab") as log:
            # A group of its own: Ctrl-C is the demo's, which then stops the daemon.
            self._process = subprocess.Popen(
                command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
            )
        self.pid, self.admitted, self._is_stopping = self._process.pid, 0, False
        line = _first_line(self._process, START_SECONDS_MAX)
        if not line.startswith("listening on http://"):
            raise DemoFailed(f"the daemon did not start; its first line is {line!r}")
        self.url = line.removeprefix("listening on ").strip()

    def terminate(self) -> None:
        """Once only: a second signal would end the drain."""
        if self._process is not None and not self._is_stopping and self._process.poll() is None:
            self._is_stopping = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Waits for the child to end, asking it to and, out of time or patience, killing it; returns its exit code."""
        process = self._process
        if process is None:
            return 0
        try:
            self.terminate()
            code = process.wait(DRAIN_SECONDS + EXIT_GRACE_SECONDS + 5)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return code

    def close(self, *, keep: bool) -> None:
        try:
            self.stop()
            for receiver in self.receivers.values():
                receiver.close()
        finally:
            if keep:
                self.say(f"the daemon's log and reports are in {self.directory}")
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    def client(
        self, client_id: str, behave: Behaviour, *, up: bool = True, schedule: list[str] | None = None
    ) -> Receiver:
        """Registers the client with a new receiver, in place of the one it may have had."""
        receiver = Receiver(behave, up=up)
        old, self.receivers[client_id] = self.receivers.get(client_id), receiver
        endpoint = {"url": receiver.url, "id": "default"} | ({} if schedule is None else {"schedule": schedule})
        body = msgspec.json.encode({"endpoints": [endpoint]})
        view = self.ask(200, 201).put(f"/v1/clients/{client_id}", body)
        receiver.secret = view["endpoints"][0].get("secret") or (old.secret if old is not None else "")
        if old is not None:
            old.close()
        return receiver

    def post(self, client_id: str, event_type: str) -> Posted:
        payload = msgspec.json.encode({"number": next(self._numbers), "note": "from hookd demo"})
        at = time.monotonic()
        body = self.ask(202).post(f"/v1/clients/{client_id}/events", _event_body(event_type, payload))
        self.admitted += 1
        return Posted(body["id"], at, payload)

    def ask(self, *statuses: int) -> Asked:
        return Asked(self.remote, statuses)

    def status(self) -> Any:
        return self.ask(200).get("/v1/status")

    def health(self, client_id: str) -> Any:
        return self.ask(200).get(f"/v1/clients/{client_id}")["endpoints"][0]["health"]

    def event(self, client_id: str, event: Posted) -> Any:
        return self.ask(200).get(f"/v1/clients/{client_id}/events/{event.id}")

    def delivery(self, client_id: str, event: Posted) -> Any:
        return self.event(client_id, event)["deliveries"][0]

    def events(self, client_id: str, *, status: str = "") -> list[Any]:
        """All that the daemon lists of the client."""
        found: list[Any] = []
        query = f"/v1/events?client_id={client_id}&limit=1000" + (f"&status={status}" if status else "")
        cursor: str | None = ""
        while cursor is not None:
            page = self.ask(200).get(query + (f"&cursor={cursor}" if cursor else ""))
            found += page["events"]
            cursor = page["next_cursor"]
        return found

    def named(self, client_id: str, events: Sequence[Posted]) -> list[Any]:
        """The daemon's view of just these events."""
        ids = _ids(events)
        return [event for event in self.events(client_id) if event["id"] in ids]

    def statuses(self, client_id: str, events: Sequence[Posted]) -> dict[str, int]:
        return dict(Counter(event["status"] for event in self.named(client_id, events)))

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS_MAX) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {seconds:g} s for {what}")
            time.sleep(LOOK_EVERY_SECONDS)

    def wait_settled(self, clients: Iterable[str]) -> None:
        for client_id in clients:
            self.wait(partial(self._is_settled, client_id), f"{client_id} to settle")

    def _is_settled(self, client_id: str) -> bool:
        return not self.health(client_id)["unsettled"]

    def command(self, *arguments: str) -> str:
        """One of hookd's own commands, to its end; its stdout."""
        ended = subprocess.run(
            [sys.executable, "-m", "daemon", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if ended.returncode:
            raise DemoFailed(f"hookd {arguments[0]} ended with {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout

    def say(self, line: str) -> None:
        print(line, flush=True)

    def say_lines(self, label: str, text: str) -> None:
        for number, line in enumerate(_wrapped(text, 90 - len(label))):
            self.say((" " * len(label) if number else label) + line)

    def say_indented(self, text: str) -> None:
        for line in text.splitlines():
            self.say(f"  | {line}")

    def say_verdict(self, differences: Sequence[str]) -> None:
        for difference in differences:
            self.say(self._coloured("31", f"DIFFERS: {difference}"))
        self.say("" if differences else self._coloured("32", "holds") + "\n")

    def say_log(self) -> None:
        """The last lines of the daemon's log, for whoever wants to know why."""
        if not self._log.exists():
            return
        self.say(f"the last lines of {self._log}:")
        for line in self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]:
            self.say(f"  | {line[:240]}")

    def _coloured(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


def _first_line(process: "subprocess.Popen[str]", seconds: float) -> str:
    """Bounded; "" where there is none, because it ended or hangs."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else ""


def _post_for(seconds: float, stage: Stage, client_id: str, *, each: Callable[[], None] = lambda: None) -> list[Posted]:
    """Posts an event every 50 ms."""
    events = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        events.append(stage.post(client_id, f"demo.{client_id}"))
        each()
        time.sleep(0.05)
    return events


def _wrapped(text: str, columns: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > columns:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line


def _may_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise _Stopped(number)


def _say_head(stage: Stage) -> None:
    schedule = ", ".join(f"{delay:g}" for delay in SCHEDULE_SECONDS)
    stage.say(f"This is the real daemon, hookd {__version__}, process {stage.pid}, listening on {stage.url}")
    stage.say(f"  at a demo's pace: timeout {TIMEOUT_SECONDS:g} s, retries after {schedule} s, {CONCURRENCY} in flight")
    stage.say(f"  while it runs: curl -s {stage.url}/v1/status      Ctrl-C drains it and shows its report\n")


def _say_stopped(stage: Stage) -> None:
    stage.say("\nstopped; the daemon drains:")
    stage.stop()
    reports = sorted(stage.reports.glob("shutdown-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    if reports:
        try:
            stage.say_indented(stage.command("report", str(reports[-1])))
        except (DemoFailed, subprocess.TimeoutExpired) as failed:
            stage.say(f"its report cannot be shown: {failed}")


def _say_how_to_run(stage: Stage) -> None:
    stage.say("Run it for real; any HTTP server is a receiver, 9000 stands for its port:")
    stage.say("  hookd run --dev --client acme=http://127.0.0.1:9000/hook")
    stage.say("and try:")
    stage.say("  curl -s http://127.0.0.1:8080/v1/clients/acme/events --json \\")
    stage.say("""    '{"type": "invoice.paid", "payload": {"amount": 42}}'""")
    stage.say("  curl -s http://127.0.0.1:8080/v1/clients/acme")
    stage.say("  curl -s http://127.0.0.1:8080/v1/status")
