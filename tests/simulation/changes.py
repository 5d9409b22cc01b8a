"""Actions that change what deliveries are granted while they wait and fly: reloads, schedules, secrets, long pauses.

They are planned apart from the others, in some seeds (plan.py); workload.py has the table.
"""

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from hookd.core.client import Client
from hookd.core.settings import Settings
from hookd.process.reloading import ReloadRefused

from tests.simulation.plan import STEADY, new_secret, shared_proxy

if TYPE_CHECKING:
    from tests.simulation.workload import Workload

SCHEDULES = ((), (1.0,), (0.0, 0.0), (2.0, 2.0, 2.0), (0.5, 1.0, 2.0, 4.0, 8.0), (5.0, 30.0), (0.3,) * 9)
# None: as the settings say.
OWN_SCHEDULES: tuple[list[str] | None, ...] = (
    [],
    ["1s"],
    ["0s", "0s"],
    ["2s", "2s", "2s"],
    ["1s"] * 9,
    None,
)  # None: as the settings say
# An hour or two, a day, a year and to 1966.
FAR = (-3600.0, -7200.0, 86400.0, 366 * 86400.0, -58 * 365 * 86400.0)


class Changes:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world

    async def reload(self, draw: Random) -> None:
        """SIGHUP: another global schedule, another secret of the configuration's client, or a file with a mistake."""
        what = draw.choice(("schedule", "schedule", "secret", "both", "mistake"))
        schedule, secret = draw.choice(SCHEDULES), new_secret(draw)
        before = self.world.settings
        wanted = before
        if what in ("schedule", "both", "mistake"):
            wanted = msgspec.structs.replace(
                wanted, retry=msgspec.structs.replace(wanted.retry, schedule_seconds=schedule)
            )
        if what in ("secret", "both"):
            wanted = _with_secret(wanted, secret)
        refused = ReloadRefused(["it has a mistake"]) if what == "mistake" else None
        if self.world.reload(wanted, refused) and refused is None:
            self.world.count("reloads")
            self._note_reloaded(wanted, secret if what in ("secret", "both") else "")

    async def reload_proxy(self, draw: Random) -> None:
        """SIGHUP: `[egress]` names a proxy from here on, or none. What begins later goes that way."""
        shared, before = draw.choice((shared_proxy(), None)), self.world.settings
        egress = msgspec.structs.replace(before.egress, shared=shared)
        has_changed = self.world.reload(msgspec.structs.replace(before, egress=egress), None)
        self.world.count("reloads of the proxy", has_changed and shared != before.egress.shared)

    def _note_reloaded(self, settings: Settings, secret: str) -> None:
        """All of it held at once: nothing else ran meanwhile."""
        now = self.world.now()
        for key, endpoint in self.world.checks.registered.items():
            if endpoint.definition.get("schedule") is None and endpoint.schedules_in_force.spans:
                endpoint.schedules_in_force.replace(settings.retry.schedule_seconds, now)
            if key[0] == STEADY and secret:
                endpoint.secrets.change(secret, now, now, settings.delivery.secret_overlap_seconds)

    async def put_schedule(self, draw: Random) -> None:
        """One endpoint's own, or none; the rest stays. Now and then there and back, while things are in flight."""
        client_id = self.workload._client(draw)
        chosen = [draw.choice(OWN_SCHEDULES) for _ in range(draw.choice((1, 1, 2, 3)))]
        pauses = [draw.choice((0.0, 0.3, 3.0)) for _ in chosen]
        if client_id is None:
            return
        keys = sorted(self.workload._defined[client_id])
        key = draw.choice(keys)
        for schedule, pause in zip(chosen, pauses, strict=True):
            defined = {each: dict(one) for each, one in self.workload._defined[client_id].items()}
            if key not in defined or client_id in self.workload._busy:
                return
            defined[key].pop("schedule", None)
            if schedule is not None:
                defined[key]["schedule"] = schedule
            await self._put(client_id, defined)
            await trio.sleep(pause)

    async def put_secret(self, draw: Random) -> None:
        """A secret changed by PUT: a new one, one rotated away that a platform has stored, or none at all."""
        client_id = self.workload._client(draw)
        kind, made = draw.choice(("new", "new", "old", "old", "none")), new_secret(draw)
        if client_id is None:
            return
        defined = self.workload._defined[client_id]
        key = draw.choice(sorted(defined))
        old = [one.secret for one in self.workload._endpoint(client_id, key).secrets.old]
        secret = {"new": made, "none": "", "old": draw.choice(old) if old else made}[kind]
        self.world.count(f"secrets put: {'repeated' if secret in old else kind}")
        await self._put(client_id, defined, {key: secret})

    async def pause_long(self, draw: Random) -> None:
        """About as long as deliveries may live, with whatever is in flight when it begins."""
        endpoint = self.workload._one_endpoint(draw)
        seconds = min(self.world.settings.retry.age_seconds_max, 60.0) * draw.choice((0.3, 1.0, 1.5))
        if endpoint is None:
            return
        run = self.world.run
        await self.workload._pause(endpoint)
        await trio.sleep(seconds)
        client_id, endpoint_id = endpoint.key
        is_there = endpoint_id in self.workload._defined[client_id] and client_id not in self.workload._busy
        if run is self.world.run and run.is_lasting and is_there:
            await self.workload._resume(endpoint)

    async def jump_far(self, draw: Random) -> None:
        """The wall clock, by more than an hour."""
        self.world.jump(draw.choice(FAR))

    async def _put(
        self, client_id: str, defined: dict[str, dict[str, Any]], secrets: dict[str, str] | None = None
    ) -> None:
        hosts = {key: self.workload._endpoint(client_id, key).host for key in defined}
        await self.workload._put(client_id, defined, hosts, secrets=secrets)


def _with_secret(settings: Settings, secret: str) -> Settings:
    endpoint = msgspec.structs.replace(settings.clients[0].endpoints[0], secret=secret)
    return msgspec.structs.replace(
        settings, clients=(Client(id=STEADY, endpoints=(endpoint,), managed_by_config=True),)
    )
