"""The table of actions: what producers and operators may do, over HTTP as anyone would, and what they then know.

To add one: a method, and a row in `ACTIONS` with its weight. A method takes its own source of chance, asks, and notes
what the answer says in the model (invariants.py holds them).
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

from tests.simulation import answer_invariants, log_invariants, looks
from tests.simulation.again import Again
from tests.simulation.callers import Answered, Callers
from tests.simulation.cancelling import Cancelling
from tests.simulation.changes import Changes
from tests.simulation.declaring import Declaring
from tests.simulation.in_force import InForce, Secrets
from tests.simulation.looks import Looks
from tests.simulation.model import Posted, Registered
from tests.simulation.plan import (
    STEADY,
    STEADY_HOST,
    STEADY_SECRET,
    Action,
    chance,
    definition,
    new_secret,
    seconds_of,
    traits,
)
from tests.simulation.posting import FULL, Posting
from tests.simulation.proxies import way_of

if TYPE_CHECKING:
    from tests.simulation.world import Run, World

# After the faults of the core stop: the longest wait that a failing endpoint may still be in.
PROBE_SECONDS_MAX, RETRY_AFTER_SECONDS = 60.0 * 1.2, 40.0 * 1.2


class Putting(NamedTuple):
    """A definition that was asked for."""

    client_id: str
    defined: dict[str, dict[str, Any]]
    hosts: dict[str, Any]
    affected: list[Registered]
    removed_before: list[bool]
    endpoints: list[dict[str, Any]]
    sent: dict[str, str]  # secrets
    offers: dict[str, InForce]
    asked_at: float


class Workload:
    def __init__(self, world: "World", nursery: trio.Nursery) -> None:
        self.world = world
        self._nursery = nursery
        self._callers = Callers(world)
        self._numbers = self._proxies = 0
        self._versions = 0
        self._busy: set[str] = set()  # clients whose registration is being changed
        self._defined: dict[str, dict[str, dict[str, Any]]] = {}
        self._meet_steady()
        for client_id, endpoints in world.plan.clients.items():
            self._defined[client_id] = {one["id"]: one for one in endpoints}
            for one in endpoints:
                self._meet(client_id, one)

    def _meet_steady(self) -> None:
        host = self.world.network.add_host(STEADY_HOST, (STEADY, "default"))
        endpoint = Registered((STEADY, "default"), {"id": "default"}, host, [host], concurrency=3)
        endpoint.secrets = Secrets(STEADY_SECRET)
        self.world.checks.registered[endpoint.key] = endpoint

    def _meet(self, client_id: str, defined: dict[str, Any]) -> Registered:
        key = (client_id, defined["id"])
        host = self._new_host(key)
        endpoint = self.world.checks.registered[key] = Registered(key, defined, host, [host])
        endpoint.traits = traits(self.world.plan.seed, *key)
        if way := way_of(endpoint, None):
            self._proxies += 1
            self.world.network.add_proxy(way, f"5.2.{self._proxies >> 8}.{self._proxies & 255}")
        return endpoint

    def _new_host(self, key: tuple[str, str], *, is_tls: bool = False) -> Any:
        self._versions += 1
        return self.world.network.add_host(f"{key[0]}-{key[1].lower()}-{self._versions}.test", key, is_tls=is_tls)

    async def act(self, action: Action) -> None:
        if self.world.run.is_ready and not self.world.run.is_over:
            self.world.count(f"action {action.kind}")
            await ACTIONS[action.kind][1](self, chance(self.world.plan.seed, "action", action.number))

    # Registration

    async def put(self, draw: Random) -> None:
        """Changes a client: another URL, other settings, an endpoint more or fewer."""
        client_id = self._client(draw)
        if client_id is None:
            return
        defined = {key: dict(one) for key, one in self._defined[client_id].items()}
        hosts = {key: self._endpoint(client_id, key).host for key in defined}
        kind = draw.choice(("url", "url", "settings", "add", "remove", "same", "tls"))
        chosen = draw.choice(sorted(defined))
        if kind in ("url", "tls"):
            hosts[chosen] = self._new_host((client_id, chosen), is_tls=kind == "tls")
            self._endpoint(client_id, chosen).hosts.append(hosts[chosen])
        elif kind == "settings":
            defined[chosen] = definition(draw, chosen)
        elif kind == "add" and len(defined) < 5:
            added = f"e{draw.randint(5, 9)}"
            if added not in defined:
                defined[added] = definition(draw, added)
                endpoint = self.world.checks.registered.get((client_id, added)) or self._meet(client_id, defined[added])
                hosts[added] = self._new_host((client_id, added))
                endpoint.hosts.append(hosts[added])
        elif kind == "remove" and len(defined) > 1:
            del defined[chosen], hosts[chosen]
        await self._put(client_id, defined, hosts, end_unsettled=draw.random() < 0.7)

    async def delete(self, draw: Random) -> None:
        """Removes a client, and registers it again."""
        client_id = self._client(draw)
        if client_id is None:
            return
        run, defined = self.world.run, self._defined[client_id]
        affected = [self._endpoint(client_id, key) for key in defined]
        self._begin_change(client_id, affected)
        asked_at = self.world.now()
        for endpoint in affected:
            endpoint.holds.lift_asked(asked_at, pauses=True)
        flag = draw.choice(("true", "false"))
        answered = await self._callers.ask("DELETE", f"/v1/clients/{client_id}?end_unsettled={flag}")
        if self._is_stale(run, answered):
            return
        assert answered is not None
        if answered.status == 204:
            await self._register_again(client_id, affected, asked_at)
        else:
            self._refused(answered, "unsettled-deliveries", "draining")
            self._end_change(client_id, affected)

    async def _register_again(self, client_id: str, affected: list[Registered], asked_at: float) -> None:
        """At other URLs, since its removal was asked for at that time and answered."""
        for endpoint in affected:
            self._remove(endpoint, asked_at)
        for endpoint in affected:
            endpoint.host = self._new_host(endpoint.key)
            endpoint.hosts.append(endpoint.host)
        self._busy.discard(client_id)
        await self._put(client_id, self._defined[client_id], {one.key[1]: one.host for one in affected})

    async def _put(
        self,
        client_id: str,
        defined: dict[str, dict[str, Any]],
        hosts: dict[str, Any],
        *,
        end_unsettled: bool = True,
        secrets: dict[str, str] | None = None,
    ) -> None:
        """`secrets` are sent for some endpoints instead of what the platform has stored: empty for none."""
        if client_id in self._busy:
            return
        run = self.world.run
        asked = self._begin_put(client_id, defined, hosts, secrets or {})
        path = f"/v1/clients/{client_id}?end_unsettled={str(end_unsettled).lower()}"
        answered = await self._callers.ask("PUT", path, msgspec.json.encode({"endpoints": asked.endpoints}))
        if self._is_stale(run, answered):
            return
        assert answered is not None
        if answered.status in (200, 201):
            self._end_put(asked, {one["id"]: one.get("secret") for one in answered.body["endpoints"]})
        else:
            self._refused(answered, "unsettled-deliveries", "draining")
            self._end_put(asked, None)

    def _begin_put(
        self, client_id: str, defined: dict[str, dict[str, Any]], hosts: dict[str, Any], secrets: dict[str, str]
    ) -> "Putting":
        """From here on it may hold, until the answer says whether it does."""
        known = {**self._defined[client_id], **defined}
        affected = [self._endpoint(client_id, key) for key in known]
        self._begin_change(client_id, affected)
        removed_before = [endpoint.was_removed for endpoint in affected]
        for endpoint in affected:
            endpoint.was_removed |= endpoint.key[1] not in defined  # it may be, before the answer says so
            if endpoint.key[1] not in defined:
                endpoint.holds.lift_asked(self.world.now(), pauses=True)
        endpoints, sent, offers = [], {}, {}
        asked_at = self.world.now()
        for key, one in defined.items():
            scheme = "https" if hosts[key].is_tls else "http"
            body = {
                **one,
                **traits(self.world.plan.seed, client_id, key),
                "url": f"{scheme}://{hosts[key].name}/hook?token=URL-CANARY",
            }
            endpoint = self._endpoint(client_id, key)
            sent[key] = secrets.get(key, endpoint.secrets.current)
            if sent[key]:
                body["secret"] = sent[key]
            offers[key] = endpoint.schedules_in_force.offer(self._schedule(one), asked_at)
            if endpoint.host is not hosts[key]:
                endpoint.holds.lift_asked(asked_at, pauses=False)
            if endpoint.is_registered:  # it may hold before the answer says so
                concurrency = one.get("concurrency", self.world.settings.delivery.concurrency)
                endpoint.concurrency = max(endpoint.concurrency, concurrency)
            endpoints.append(body)
        return Putting(client_id, defined, hosts, affected, removed_before, endpoints, sent, offers, asked_at)

    def _end_put(self, asked: "Putting", made: dict[str, str | None] | None) -> None:
        """`made` are the secrets that the answer shows; None: it was refused."""
        if made is not None:
            secrets = {key: made.get(key) or asked.sent[key] for key in asked.defined}
            self._take_over(asked.client_id, asked.defined, asked.hosts, secrets, asked.offers, asked.asked_at)
        else:
            for endpoint, was_removed in zip(asked.affected, asked.removed_before, strict=True):
                endpoint.was_removed = was_removed
            for offer in asked.offers.values():
                offer.ends = self.world.now()
            for key, host in asked.hosts.items():
                host.retired |= host is not self._endpoint(asked.client_id, key).host
        self._end_change(asked.client_id, asked.affected)

    def _take_over(
        self,
        client_id: str,
        defined: dict[str, dict[str, Any]],
        hosts: dict[str, Any],
        secrets: dict[str, str],
        offers: dict[str, InForce],
        asked_at: float,
    ) -> None:
        for key in self._defined[client_id]:
            if key not in defined:
                self._remove(self._endpoint(client_id, key), asked_at)
        settings, now = self.world.settings, self.world.now()
        for key, one in defined.items():
            endpoint = self._endpoint(client_id, key)
            if endpoint.host is not hosts[key]:
                endpoint.host.retired = True
                endpoint.host, endpoint.gone, endpoint.not_before = hosts[key], False, -1.0
                endpoint.holds.lifted(asked_at, now, pauses=False)
            endpoint.host.retired = False
            endpoint.definition = one
            concurrency = one.get("concurrency", settings.delivery.concurrency)
            was_registered, endpoint.is_registered = endpoint.is_registered, True
            endpoint.concurrency = max(endpoint.concurrency, concurrency) if was_registered else concurrency
            endpoint.schedules_in_force.settle(offers[key], now)
            timeout = one.get("timeout")
            endpoint.timeout = settings.delivery.timeout_seconds if timeout is None else seconds_of(timeout)
            endpoint.changes += was_registered
            if not was_registered:
                endpoint.secrets = Secrets(secrets[key])
            elif secrets[key]:
                endpoint.secrets.put(secrets[key], asked_at, now, settings.delivery.secret_overlap_seconds)
        self._defined[client_id] = defined

    def _schedule(self, one: dict[str, Any]) -> tuple[float, ...]:
        """As its definition has it, or as the settings do."""
        own = one.get("schedule")
        return self.world.settings.retry.schedule_seconds if own is None else tuple(map(seconds_of, own))

    def _remove(self, endpoint: Registered, asked_at: float) -> None:
        endpoint.holds.lifted(asked_at, self.world.now(), pauses=True)
        endpoint.schedules_in_force.end(self.world.now())
        endpoint.is_registered, endpoint.was_removed, endpoint.host.retired = False, True, True
        endpoint.paused, endpoint.paused_at, endpoint.gone, endpoint.not_before = False, None, False, -1.0
        for posted in self.world.checks.posted.values():
            duty = posted.duties.get(endpoint.key[1])
            if posted.client_id == endpoint.key[0] and duty is not None and duty.opened_at is not None:
                duty.removed_at = self.world.now()

    def _begin_change(self, client_id: str, affected: list[Registered]) -> None:
        self._busy.add(client_id)
        for endpoint in affected:
            endpoint.is_changing = True
            endpoint.loosened_at = self.world.now()

    def _end_change(self, client_id: str, affected: list[Registered]) -> None:
        self._busy.discard(client_id)
        for endpoint in affected:
            endpoint.is_changing = False
            endpoint.loosened_at = self.world.now()

    def _is_stale(self, run: "Run", answered: Answered | None) -> bool:
        """The daemon that was asked is gone, or going: what holds is not known until the next one is told."""
        return answered is None or run is not self.world.run

    # Operators

    async def pause(self, draw: Random) -> None:
        endpoint = self._one_endpoint(draw)
        if endpoint is not None:
            await self._pause(endpoint)

    async def _pause(self, endpoint: Registered) -> None:
        run = self.world.run
        self._busy.add(endpoint.key[0])
        endpoint.loosened_at = self.world.now()
        if endpoint.paused_at is None:
            endpoint.paused_at = self.world.now()
        endpoint.holds.pause_asked(self.world.now())
        answered = await self._operate(endpoint, "pause")
        if not self._is_stale(run, answered):
            endpoint.paused = True
            endpoint.holds.paused(self.world.now())
            self._busy.discard(endpoint.key[0])

    async def resume(self, draw: Random) -> None:
        endpoint = self._one_endpoint(draw)
        if endpoint is not None:
            await self._resume(endpoint)

    async def _resume(self, endpoint: Registered) -> None:
        run = self.world.run
        self._busy.add(endpoint.key[0])
        endpoint.loosened_at = self.world.now()
        endpoint.paused = endpoint.gone = False
        endpoint.gone_at, endpoint.not_before = self.world.now(), -1.0
        asked_at = self.world.now()
        endpoint.holds.lift_asked(asked_at, pauses=True)
        was_changing, endpoint.is_changing = endpoint.is_changing, True
        answered = await self._operate(endpoint, "resume")
        if not self._is_stale(run, answered):
            endpoint.holds.lifted(asked_at, self.world.now(), pauses=True)
            endpoint.paused_at = None
            endpoint.loosened_at = self.world.now()
            endpoint.is_changing = was_changing
            self._busy.discard(endpoint.key[0])

    async def rotate(self, draw: Random) -> None:
        endpoint = self._one_endpoint(draw)
        if endpoint is None:
            return
        run = self.world.run
        self._begin_change(endpoint.key[0], [endpoint])
        given = draw.choice(("", "", new_secret(draw), *(one.secret for one in endpoint.secrets.old[-1:])))
        asked_at, body = self.world.now(), msgspec.json.encode({"secret": given}) if given else b""
        answered = await self._operate(endpoint, "rotate-secret", body)
        if self._is_stale(run, answered):
            return
        assert answered is not None
        if answered.status == 200:
            made = next(one.get("secret") for one in answered.body["endpoints"] if one["id"] == endpoint.key[1])
            if bool(made) is bool(given):
                self.world.fail("S7", f"rotate-secret was {'' if given else 'not '}given a secret, and shows {made!r}")
            overlap_seconds = self.world.settings.delivery.secret_overlap_seconds
            endpoint.secrets.change(made or given, asked_at, self.world.now(), overlap_seconds)
        self._end_change(endpoint.key[0], [endpoint])

    async def test(self, draw: Random) -> None:
        endpoint = self._one_endpoint(draw)
        if endpoint is None:
            return
        run = self.world.run
        endpoint.tests_open += 1
        endpoint.tests_ever += 1
        answered = await self._operate(endpoint, "test")
        if not self._is_stale(run, answered):
            endpoint.tests_open -= 1

    async def _operate(self, endpoint: Registered, what: str, body: bytes = b"") -> Answered | None:
        client_id, endpoint_id = endpoint.key
        answered = await self._callers.ask("POST", f"/v1/clients/{client_id}/endpoints/{endpoint_id}/{what}", body)
        if answered is not None and answered.status != 200:
            self._refused(answered, "draining")
        return answered

    async def retry(self, draw: Random) -> None:
        posted = self._one_posted(draw)
        if posted is None:
            return
        for endpoint_id in posted.endpoints:
            duty = posted.duty(endpoint_id)
            posted.cancelled_before.discard(endpoint_id)
            duty.retries_sent += 1
            duty.retried_at = self.world.now()
            duty.retry_asked_at = duty.retry_asked_at if duty.retries_open else self.world.now()
            duty.retries_open += 1
            self._endpoint(posted.client_id, endpoint_id).loosened_at = self.world.now()
        asked_at = self.world.now()
        answered = await self._callers.ask("POST", f"/v1/clients/{posted.client_id}/events/{posted.id}/retry")
        if answered is None:
            return
        views = {one["endpoint_id"]: one for one in answered.body.get("deliveries", ())}
        for endpoint_id in posted.endpoints:
            self._note_retried(posted, endpoint_id, views.get(endpoint_id))
        if answered.status in (200, 202):
            answer_invariants.check_event(self.world, answered.body, asked_at)
        else:
            allowed = ("unknown-event", "unknown-client") if posted.may_be_forgotten else ()
            self._refused(answered, "draining", "endpoint-disabled", *FULL, *allowed)

    def _note_retried(self, posted: Posted, endpoint_id: str, view: dict[str, Any] | None) -> None:
        """Whether it was reopened: it had been given up, and is pending again."""
        duty, told = posted.duty(endpoint_id), self.world.checks.told.given_up
        duty.retries_open -= 1
        if view is None or view["status"] in answer_invariants.SETTLED:
            return  # refused, or left as it was
        given_up = told.get((posted.client_id, posted.id, endpoint_id), [])
        if len(given_up) == duty.given_up_before:
            return  # it was not
        if given_up[-1].at >= duty.retry_asked_at:
            duty.retries_open += 1  # which of both came first is not known: nothing is claimed of it any more
            return
        if given_up[-1].attempts > view["attempt_count"] - view["in_flight"]:
            return  # not yet
        duty.given_up_before = len(given_up)
        duty.first_asked_at, duty.opened_at = duty.retry_asked_at, self.world.now()
        duty.before_least = duty.before_most = given_up[-1].attempts
        duty.settled_status = duty.shown_max = None

    # Readers

    async def get_event(self, draw: Random) -> None:
        posted = self._one_posted(draw)
        if posted is not None:
            await self._look_at(posted)

    async def _look_at(self, posted: Posted) -> dict[str, Any] | None:
        run, asked_at = self.world.run, self.world.now()
        answered = await self._callers.ask("GET", f"/v1/clients/{posted.client_id}/events/{posted.id}")
        if answered is None or run is not self.world.run:
            return None
        if answered.status == 200:
            answer_invariants.check_event(self.world, answered.body, asked_at)
            return dict(answered.body)
        if not posted.may_be_forgotten and posted.admitted:
            self.world.fail("S8", f"{posted.id} was admitted, and asked for it is {answered.problem}")
        return None

    async def get_status(self, draw: Random) -> None:
        asked_at = self.world.now()

        def check(body: dict[str, Any]) -> None:
            answer_invariants.check_status(self.world, body, asked_at)
            looks.check_status(self.world, body, asked_at)

        answered = await self._callers.ask("GET", "/v1/status", then=check)
        if answered is not None and answered.status != 200:
            self._refused(answered)

    async def list_events(self, draw: Random) -> None:
        run, asked_at = self.world.run, self.world.now()
        answered = await self._callers.ask("GET", f"/v1/events?limit={draw.choice((1, 5, 100))}")
        if answered is not None and run is self.world.run:
            for view in answered.body["events"]:
                if view["client_id"] in self._defined or view["client_id"] == STEADY:
                    self._look_if_known(view, asked_at)

    def _look_if_known(self, view: dict[str, Any], asked_at: float) -> None:
        if self.world.checks.posted_as(view["client_id"], view["id"]) is not None:
            answer_invariants.check_event(self.world, view, asked_at)
        elif not self.world.checks.nameless and not self.world.checks.readers.know(view["id"]):
            self.world.fail("S8", f"{view['id']} is listed and was never posted")

    async def get_client(self, draw: Random) -> None:
        client_id, run, asked_at = draw.choice(sorted(self._defined)), self.world.run, self.world.now()
        answered = await self._callers.ask("GET", f"/v1/clients/{client_id}")
        if answered is None or run is not self.world.run or answered.status != 200:
            return
        for one in answered.body["endpoints"]:
            log_invariants.check_health(self.world, (client_id, one["id"]), one["health"], asked_at)
            answer_invariants.check_budget_used(self.world, client_id, one["health"])

    async def get_metrics(self, draw: Random) -> None:
        run, counted_before = self.world.run, self.world.checks.told.counts.copy()
        asked_at, fallen_before = self.world.now(), run.ports.fallen.copy()
        answered = await self._callers.ask("GET", "/metrics")
        if answered is not None and run is self.world.run:
            log_invariants.check_metrics(self.world, answered.text.decode(), counted_before)
            looks.check_metrics(self.world, answered.text.decode(), asked_at, fallen_before)

    async def jump(self, draw: Random) -> None:
        """The wall clock; not the daemon's fault, and not its business."""
        self.world.jump(draw.choice((-3600.0, -5.0, 3.0, 100.0, 86400.0)))

    # Helpers

    def _endpoint(self, client_id: str, endpoint_id: str) -> Registered:
        return self.world.checks.registered[client_id, endpoint_id]

    def _client(self, draw: Random) -> str | None:
        """One whose registration nobody is changing."""
        client_id = draw.choice(sorted(self._defined))
        return None if client_id in self._busy else client_id

    def _one_endpoint(self, draw: Random) -> Registered | None:
        client_id = self._client(draw)
        chosen = draw.random()
        if client_id is None:
            return None
        keys = sorted(self._defined[client_id])
        return self._endpoint(client_id, keys[int(chosen * len(keys))])

    def _one_posted(self, draw: Random) -> Posted | None:
        known = [one for one in self.world.checks.posted.values() if one.admitted]
        return draw.choice(known[-40:]) if known else None

    def _refused(self, answered: Answered, *slugs: str) -> None:
        """Refusals that may be; anything else is a violation."""
        slug = answered.problem
        if slug == "draining" and not self.world.run.may_drain:
            self.world.fail("S8", "refused as draining before any stop")
        elif slug not in slugs:
            self.world.fail("S8", f"answered {answered.status} {answered.text[:300]}")

    # Liveness

    async def live_on(self, core: tuple[tuple[str, str], ...]) -> None:
        """Endpoints of the core are well from here on: everything for them settles, and what is posted arrives."""
        run = self.world.run
        await trio.sleep(
            1 + max(one.timeout for one in self.world.checks.registered.values())
        )  # what met them has ended
        for client_id, endpoint_id in core:
            while client_id in self._busy:  # noqa: ASYNC110  # whoever it is that changes it
                await trio.sleep(0.5)
            if endpoint_id in self._defined[client_id]:
                endpoint = self._endpoint(client_id, endpoint_id)
                if endpoint.host.is_tls:
                    host = self._new_host(endpoint.key)
                    endpoint.hosts.append(host)
                    defined = self._defined[client_id]
                    hosts = {key: self._endpoint(client_id, key).host for key in defined}
                    await self._put(client_id, defined, {**hosts, endpoint_id: host})
                if endpoint.paused_at is not None or endpoint.ever_gone:  # of any other trouble it must find out itself
                    await self._resume(endpoint)
        owed = [one for one in self.world.checks.posted.values() if one.admitted]
        await trio.sleep(self._horizon(len(owed), core))
        await self.get_status(chance(0, "status"))
        if self.world.plan.port_faults:
            await self.get_metrics(chance(0, "metrics"))
            await Looks(self).get_ready(chance(0, "ready"))
            await Looks(self).get_settlements(chance(0, "settlements"))
        for posted in owed:
            await self._check_settled(posted, core)
        if run is self.world.run:
            for client_id, endpoint_id in core:
                await self._check_fresh(client_id, endpoint_id)

    def _horizon(self, owed: int, core: tuple[tuple[str, str], ...]) -> float:
        schedules = [each for one in self.world.checks.registered.values() for each in one.schedules]
        longest = max((delay for each in schedules for delay in each), default=0.0)
        timeouts = 4 * max(one.timeout for one in self.world.checks.registered.values())
        held = max(self.world.checks.registered[key].holds.left_most(self.world.now()) for key in core)
        return longest * 1.5 + PROBE_SECONDS_MAX + RETRY_AFTER_SECONDS + held + timeouts + owed * 0.7

    async def _check_settled(self, posted: Posted, core: tuple[tuple[str, str], ...]) -> None:
        if not any((posted.client_id, endpoint_id) in core for endpoint_id in posted.endpoints):
            return
        view = await self._look_at(posted)
        if view is None or self.world.run.stop_asked_at is not None:
            return
        for delivery in view["deliveries"]:
            if (posted.client_id, delivery["endpoint_id"]) in core and delivery[
                "status"
            ] not in answer_invariants.SETTLED:
                self.world.fail("L1", f"{posted.id} to {posted.client_id}: {delivery}")

    async def _check_fresh(self, client_id: str, endpoint_id: str) -> None:
        posted = await Posting(self).post_one(client_id, chance(self.world.plan.seed, "fresh", client_id))
        if posted is None or endpoint_id not in posted.endpoints:
            return
        await trio.sleep(5)
        duty = posted.duty(endpoint_id)
        if duty.delivered is None and not posted.may_be_forgotten:
            self.world.fail("L1", f"{posted.id} to {client_id}/{endpoint_id} was posted 5 s ago to an idle endpoint")


def _posting(name: str) -> Callable[[Workload, Random], Awaitable[None]]:
    async def act(workload: Workload, draw: Random) -> None:
        await getattr(Posting(workload), name)(draw)

    return act


def _changing(name: str) -> Callable[[Workload, Random], Awaitable[None]]:
    async def act(workload: Workload, draw: Random) -> None:
        await getattr(Changes(workload), name)(draw)

    return act


def _looking(name: str) -> Callable[[Workload, Random], Awaitable[None]]:
    async def act(workload: Workload, draw: Random) -> None:
        await getattr(Looks(workload), name)(draw)

    return act


async def _declaring(workload: Workload, draw: Random) -> None:
    await Declaring(workload).declare(draw)


def _cancelling(name: str) -> Callable[[Workload, Random], Awaitable[None]]:
    async def act(workload: Workload, draw: Random) -> None:
        await getattr(Cancelling(workload), name)(draw)

    return act


def _again(name: str) -> Callable[[Workload, Random], Awaitable[None]]:
    async def act(workload: Workload, draw: Random) -> None:
        await getattr(Again(workload), name)(draw)

    return act


# Kind -> its weight among the others, and what is done.
ACTIONS: dict[str, tuple[int, Callable[[Workload, Random], Awaitable[None]]]] = {
    "post": (30, _posting("post")),
    "post_steady": (12, _posting("post_steady")),
    "post_batch": (8, _posting("post_batch")),
    "post_again": (5, _posting("post_again")),
    "post_other": (2, _posting("post_other")),
    "post_invalid": (2, _posting("post_invalid")),
    "post_cut": (4, _posting("post_cut")),
    "post_unheard": (3, _posting("post_unheard")),
    "put": (4, Workload.put),
    "delete": (1, Workload.delete),
    "pause": (2, Workload.pause),
    "resume": (4, Workload.resume),
    "rotate": (2, Workload.rotate),
    "test": (1, Workload.test),
    "retry": (4, Workload.retry),
    "get_event": (6, Workload.get_event),
    "get_status": (8, Workload.get_status),
    "list_events": (2, Workload.list_events),
    "get_client": (1, Workload.get_client),
    "jump": (2, Workload.jump),
    # Planned apart: plan.CHANGES.
    "reload": (0, _changing("reload")),
    "reload_proxy": (0, _changing("reload_proxy")),
    "put_schedule": (0, _changing("put_schedule")),
    "put_secret": (0, _changing("put_secret")),
    "pause_long": (0, _changing("pause_long")),
    "jump_far": (0, _changing("jump_far")),
    "get_metrics": (0, Workload.get_metrics),
    "redeliver": (0, _again("redeliver")),
    "replay": (0, _again("replay")),
    "get_ready": (0, _looking("get_ready")),
    "cancel": (0, _cancelling("cancel")),
    "cancel_range": (0, _cancelling("cancel_range")),
    "get_settlements": (0, _looking("get_settlements")),
    # Planned apart: plan.declarations.
    "declare": (0, _declaring),
}
