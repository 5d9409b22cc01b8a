"""Producers: posting events in every way there is, and what their answers promise."""

from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING, Any
from zlib import crc32

import trio
from hookd.core.segment_layout import SegmentLayout

from tests.simulation import answer_invariants
from tests.simulation.callers import Answered, request
from tests.simulation.cancel_invariants import written
from tests.simulation.model import Posted
from tests.simulation.plan import STEADY, chance, is_late

if TYPE_CHECKING:
    from tests.simulation.workload import Workload

JSON, NDJSON = "application/json", "application/x-ndjson"
TYPES = ("a.x", "a.y", "b.y", "c")
FULL = ("client-full", "full")
STEADY_LAG_SECONDS = 0.25
SEGMENTS_LEAST, SEGMENTS_FREE = 6, 4


class Posting:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world
        self.callers = workload._callers

    async def post(self, draw: Random) -> None:
        await self.post_one(draw.choice(sorted(self.workload._defined)), draw)

    async def post_one(self, client_id: str, draw: Random) -> Posted | None:
        """One event; None where it is not admitted."""
        posted = self._make(client_id, draw)
        answered = await self._post([posted], self._path(draw, client_id), self._one(posted))
        if answered is None or answered.status != 202:
            return None
        return posted

    async def post_steady(self, draw: Random) -> None:
        """Its receiver is always well and nothing else is posted to it: it is attempted at once (S5)."""
        run = self.world.run
        posted = await self.post_one(STEADY, draw)
        if posted is None or posted.may_be_forgotten or self.world.settings.delivery.connections_max < 1000:
            return
        await trio.sleep(STEADY_LAG_SECONDS)
        if run.is_over or run.stop_asked_at is not None or run is not self.world.run:
            return
        if not posted.duty("default").attempts:
            self.world.fail("S5", f"{posted.id} of {STEADY} was admitted {STEADY_LAG_SECONDS} s ago and not attempted")

    async def post_batch(self, draw: Random) -> None:
        client_id = draw.choice(sorted(self.workload._defined))
        events = [self._make(client_id, draw, named=True) for _ in range(draw.choice((1, 3, 8, 12)))]
        is_lines, partial = draw.random() < 0.5, draw.random() < 0.4
        texts = [self._one(posted) for posted in events]
        body = b"\n".join(text.replace(b"\n", b" ") for text in texts) if is_lines else b"[" + b",".join(texts) + b"]"
        if is_lines:
            for posted in events:
                posted.payload = posted.payload.replace(b"\n", b" ")
        path = f"/v1/events/batch?partial={str(partial).lower()}"
        await self._post(events, path, body, media_type=NDJSON if is_lines else JSON, partial=partial)

    async def post_again(self, draw: Random) -> None:
        """The same id with the same payload: the event as it stands."""
        posted = self.workload._one_posted(draw)
        if posted is not None:
            posted.is_posted_again = True
            await self._post([posted], "/v1/events", self._one(posted), is_known=posted.admitted)

    async def post_other(self, draw: Random) -> None:
        """The same id with another payload."""
        posted = self.workload._one_posted(draw)
        if posted is None or posted.may_be_forgotten or self.world.plan.retention_is_tiny:
            return
        other = Posted(posted.client_id, posted.id, posted.type, b'{"another": "PAYLOAD-CANARY"}')
        answered = await self.callers.ask("POST", "/v1/events", self._one(other))
        if answered is not None and answered.problem not in ("id-conflict", "unknown-client"):
            self.world.fail("S8", f"{posted.id} with another payload: {answered.status} {answered.text[:200]!r}")

    async def post_invalid(self, draw: Random) -> None:
        bodies = (
            (b"{", "malformed-json"),
            (b'{"client_id": "nobody", "type": "a.x", "payload": 1}', "unknown-client"),
            (b'{"client_id": "c0", "type": "a x", "payload": 1}', "invalid-event"),
            (b'{"client_id": "c0", "type": "a.x"}', "invalid-event"),
            (b'{"client_id": "c0", "type": "a.x", "payload": "%s"}' % (b"x" * 60_000), "too-large"),
        )
        body, slug = draw.choice(bodies)
        answered = await self.callers.ask("POST", "/v1/events", body)
        if answered is not None and answered.problem != slug:
            self.world.fail("S8", f"{body[:100]!r} was answered {answered.status} {answered.text[:200]!r}")

    async def post_cut(self, draw: Random) -> None:
        """The producer goes away in the middle of its request."""
        posted = self._make(draw.choice(sorted(self.workload._defined)), draw)
        sent = request("POST", "/v1/events", self._one(posted))
        self._forget_name(posted)  # it cannot be admitted
        await self.callers.send_only(sent[: draw.randint(1, len(sent) - 1)], linger_seconds=draw.choice((0, 0.5)))

    async def post_unheard(self, draw: Random) -> None:
        """The producer goes away before the answer: admitted or not, nobody knows."""
        posted = self._make(draw.choice(sorted(self.workload._defined)), draw)
        posted.maybe += 1
        posted.duties_from(self.world.now())
        sent = request("POST", "/v1/events", self._one(posted), traceparent=self._trace([posted]))
        await self.callers.send_only(sent, linger_seconds=draw.choice((0, 0, 0.001)))

    # Making

    def _make(self, client_id: str, draw: Random, *, named: bool = False) -> Posted:
        self.workload._numbers += 1
        number = self.workload._numbers
        size = draw.choice(self.world.plan.payload_bytes)
        shape = draw.choice(
            (b'{"n":%d,"pad":"%s"}', b'{ "n" : %d,\n "pad": "PAYLOAD-CANARY %s" }', b'[%d, "\xe2\x80\xa8%s"]')
        )
        payload = shape % (number, b"x" * size)
        event_id = f"p{number}" if named or draw.random() < 0.6 else ""
        posted = Posted(client_id, event_id, draw.choice(TYPES), payload)
        posted.expires_at = self._expiry(client_id, number)
        if event_id:
            self.world.checks.posted[client_id, event_id] = posted
        else:
            self.world.checks.nameless[client_id, payload] = posted
        return posted

    def _expiry(self, client_id: str, number: int) -> float | None:
        """In some seeds some events have one, now and then in the past."""
        draw = chance(self.world.plan.seed, "expiry", number)
        if not self.world.plan.has_expiries or self.world.is_live or client_id == STEADY or draw.random() < 0.5:
            return None
        return round(self.world.wall() + draw.choice((-3.0, 1.0, 3.0, 8.0, 20.0, 60.0)), 3)

    def _forget_name(self, posted: Posted) -> None:
        self.world.checks.posted.pop((posted.client_id, posted.id), None)
        self.world.checks.nameless.pop((posted.client_id, posted.payload), None)

    def _path(self, draw: Random, client_id: str) -> str:
        return draw.choice(("/v1/events", f"/v1/clients/{client_id}/events"))

    def _one(self, posted: Posted) -> bytes:
        named = f'"id": "{posted.id}", ' if posted.id else ""
        if posted.expires_at is not None:
            named += f'"expires_at": "{written(posted.expires_at)}", '
        head = f'{{{named}"client_id": "{posted.client_id}", "type": "{posted.type}", "payload": '
        return head.encode() + posted.payload + b"}"

    def _trace(self, events: list[Posted]) -> str:
        """Of a request that brings these; the same for the same ones. In some seeds, and of two requests in three."""
        number = crc32(b"".join(posted.payload for posted in events))
        is_traced = is_late(self.world.plan.seed) and number % 3
        traceparent = f"00-{number + 1:032x}-{number + 1:016x}-01" if is_traced else ""
        for posted in events:
            posted.traceparents.add(traceparent)
        return traceparent

    # Asking, and what the answer promises

    async def _post(
        self,
        events: list[Posted],
        path: str,
        body: bytes,
        *,
        media_type: str = JSON,
        partial: bool = False,
        is_known: bool = False,
    ) -> Answered | None:
        run, asked_at, busy = self.world.run, self.world.now(), set(self.workload._busy)
        for posted in events:
            posted.maybe += 1
            posted.may_be_forgotten |= self.world.plan.retention_is_tiny
            posted.duties_from(asked_at)
        traceparent = self._trace(events)
        answered = await self.callers.ask("POST", path, body, media_type, traceparent=traceparent)
        if answered is None or run is not self.world.run:
            return None  # and nobody will ever know
        for posted in events:
            posted.maybe -= 1
        if answered.problem == "too-large" and len(body) > self.world.settings.intake.body_bytes_max:
            for posted in events:
                posted.refused = True
        elif path.startswith("/v1/events/batch"):
            self._note_batch(events, answered, asked_at, busy)
        elif answered.status in (200, 202):
            self._note_one(events[0], answered, asked_at, is_known=is_known)
        else:
            self._note_refused(events, answered, asked_at, busy)
        return answered

    def _note_one(self, posted: Posted, answered: Answered, asked_at: float, *, is_known: bool) -> None:
        view: dict[str, Any] = answered.body
        if not posted.id:
            self.world.checks.nameless.pop((posted.client_id, posted.payload), None)
            posted.id = view["id"]
            self.world.checks.posted[posted.client_id, posted.id] = posted
        if view["id"] != posted.id:
            self.world.fail("S8", f"{posted.id} was answered as {view['id']}")
        if is_known and answered.status == 202 and not posted.may_be_forgotten:
            self.world.fail("S8", f"{posted.id} was admitted twice")
        if (
            answered.status == 202
            and self.world.run.stop_asked_at is not None
            and asked_at > self.world.run.stop_asked_at
        ):
            self.world.fail("S8", f"{posted.id} was admitted after the stop")
        self._admitted(posted, tuple(one["endpoint_id"] for one in view["deliveries"]), is_new=answered.status == 202)
        answer_invariants.check_event(self.world, view, asked_at)

    def _note_batch(self, events: list[Posted], answered: Answered, asked_at: float, busy: set[str]) -> None:
        if answered.status != 202:
            self._note_refused(events, answered, asked_at, busy)
            return
        for posted, item in zip(events, answered.body["events"], strict=True):
            if item["status"] is None:
                posted.refused = not posted.admitted and not posted.maybe
            else:
                self._admitted(posted, self._wanting(posted), is_new=True)

    def _admitted(self, posted: Posted, endpoints: tuple[str, ...], *, is_new: bool) -> None:
        posted.admitted = True
        if is_new and posted.answered_at is None:
            posted.answered_at = self.world.now()
        wanting = self._wanting(posted)
        is_sure = is_new and posted.client_id not in self.workload._busy and not posted.may_be_forgotten
        if is_sure and self._is_settled_registration(posted) and sorted(endpoints) != sorted(wanting):
            self.world.fail("S8", f"{posted.id} of type {posted.type} goes to {endpoints}; {wanting} want it")
        posted.endpoints = endpoints
        for endpoint_id in endpoints:
            duty = posted.duty(endpoint_id)
            if duty.opened_at is None:
                duty.opened_at = self.world.now()

    def _is_settled_registration(self, posted: Posted) -> bool:
        """Nobody changed the client while it was being asked."""
        endpoints = [one for one in self.world.checks.registered.values() if one.key[0] == posted.client_id]
        return all(one.loosened_at < posted.first_asked_at for one in endpoints)

    def _wanting(self, posted: Posted) -> tuple[str, ...]:
        if posted.client_id == STEADY:
            return ("default",)
        found = []
        for endpoint_id, one in self.workload._defined[posted.client_id].items():
            entries = one.get("event_types", [])
            wanted = [entry for entry in entries if not entry.startswith("!")] or ["*"]
            unwanted = [entry[1:] for entry in entries if entry.startswith("!")]
            if _is_one_of(wanted, posted.type) and not _is_one_of(unwanted, posted.type):
                found.append(endpoint_id)
        return tuple(found)

    def _note_refused(self, events: list[Posted], answered: Answered, asked_at: float, busy: set[str]) -> None:
        """`busy`: whose registration was under way when it was asked; it may be over by now."""
        slug = answered.problem
        allowed = ["draining"]
        if any(one.client_id in busy | self.workload._busy for one in events):
            allowed.append("unknown-client")
        if slug in FULL:
            self._check_full(events, slug, asked_at)
            allowed.append(slug)
        self.workload._refused(answered, *allowed)
        for posted in events:
            if not posted.admitted and not posted.maybe:
                posted.refused = True

    def _check_full(self, events: list[Posted], slug: str, asked_at: float) -> None:
        """Refused for want of room: there may indeed be none."""
        checks, limits = self.world.checks, self.world.settings.intake
        client_id = events[0].client_id
        held = [one for one in (*checks.posted.values(), *checks.nameless.values()) if one.may_be_unsettled(asked_at)]
        held = [one for one in held if not (one in events and not one.admitted)]
        if slug == "client-full":
            held = [one for one in held if one.client_id == client_id]
        count = len(held) + len(events)
        size = sum(one.cost_bytes for one in (*held, *events))
        events_max = limits.client_events_max if slug == "client-full" else limits.unsettled_events_max
        bytes_max = limits.client_bytes_max if slug == "client-full" else limits.unsettled_bytes_max
        if count > events_max or size > bytes_max or self._recorder_may_be_full(held, events, slug):
            return
        self.world.fail("S6", f"refused as {slug} with at most {count - len(events)} events unsettled")

    def _recorder_may_be_full(self, held: list[Posted], events: list[Posted], slug: str) -> bool:
        """Half of the segments that are not kept free hold rows; and one row may be more than it was made for.

        One client has its share of all that there could be, and the largest row at least.
        """
        plan = self.world.plan
        if plan.layout is None:
            return False
        payloads = plan.settings.recorder.payloads
        rows = [one.row_bytes(payloads=payloads) for one in events]
        taken = sum(one.row_bytes(payloads=payloads) for one in held)
        if slug == "client-full":
            room = self._recorder_room(plan.layout, plan.layout.segments_max)
            return taken + sum(rows) > max(room * self._client_share(), plan.layout.row_bytes)
        segments = max(SEGMENTS_LEAST, min(plan.layout.segments_max, plan.segments_max))
        return max(rows) > plan.layout.row_bytes or taken + sum(rows) > self._recorder_room(plan.layout, segments)

    @staticmethod
    def _recorder_room(layout: SegmentLayout, segments: int) -> int:
        return (segments - SEGMENTS_FREE) * (layout.segment_bytes - layout.row_bytes) // 2

    def _client_share(self) -> float:
        """What one client may have of the recorder: as of the events, or as of the bytes, whichever is more."""
        limits = self.world.settings.intake
        return max(
            limits.client_events_max / limits.unsettled_events_max, limits.client_bytes_max / limits.unsettled_bytes_max
        )


def _is_one_of(entries: list[str], event_type: str) -> bool:
    return any(fnmatchcase(event_type, entry) for entry in entries)
