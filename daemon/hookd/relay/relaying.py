"""Owns one run of the relay: its tasks, and its end.

Indentation is the lifetime. On SIGTERM or SIGINT nothing more is read or posted; what is on its way may end, what
settled is acknowledged, and what is pending is left to other relays: 4.5 s at most in all. A second signal ends it at
once; others take over, then, once Redis has not seen it for `takeover_seconds`.
"""

import os
import platform
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from hookd.edge.streams import STDOUT, say
from hookd.relay.daemon_api import DaemonApi
from hookd.relay.definitions_file import DefinitionsFile
from hookd.relay.feed_reader import FeedReader
from hookd.relay.lanes import Limits
from hookd.relay.log_connection import LogConnection
from hookd.relay.look_ups import LookUps
from hookd.relay.owed import OwedTable
from hookd.relay.posting import Posting
from hookd.relay.probe_server import METRICS, TEXT, Pages, Shown, serve_probes
from hookd.relay.redis_log import Names
from hookd.relay.relay_log import RelayLog
from hookd.relay.relay_metrics import exposition, troubles
from hookd.relay.relay_state import RelayState

POSTS_SECONDS_MAX, FLUSH_SECONDS_MAX, RELEASE_SECONDS_MAX = 1.5, 1.0, 2.0
SECOND_SIGNAL_SECONDS = 0.25  # service managers send SIGTERM and SIGINT together


class RelaySettings(NamedTuple):
    redis_url: str
    stream: str
    group: str
    to: str
    feeds: Sequence[str]
    bind: tuple[str, int]
    token: str | None = None
    definitions: DefinitionsFile | None = None
    limits: Limits = Limits()
    takeover_seconds: float = 15.0


def new_member() -> str:
    """A name in the group that no other relay ever had."""
    return f"relay:{platform.node()}:{os.getpid()}:{secrets.token_hex(4)}"


class Relaying:
    """One run. `attach_signals` is given a function of a signal's name and how many seconds ago it came."""

    def __init__(
        self,
        settings: RelaySettings,
        write_log: Callable[..., None],
        attach_signals: Callable[[Callable[[str, float], None]], None],
    ) -> None:
        self.state = RelayState(OwedTable(settings.limits), settings.takeover_seconds)
        self._settings = settings
        self._log = RelayLog(write_log)
        self._attach_signals = attach_signals
        self._asked = trio.Event()
        self._asked_at = 0.0
        self._scope = trio.CancelScope()
        self._to = DaemonApi(settings.to, settings.token)
        self._feeds = [FeedReader(self.state, DaemonApi(url, settings.token), self._log) for url in settings.feeds]
        self._posting = Posting(self.state, self._to, settings.definitions, self._log)
        self._look_ups = LookUps(self.state, self._feeds)
        names = Names(settings.stream, settings.group, new_member())
        self._connection = LogConnection(self.state, settings.redis_url, names, self._feeds, self._log)
        self._member = names.member

    async def run(self) -> int:
        """How many entries it still answered for as it ended.

        Raises OSError where it cannot listen, Denied or LogRefused where it is not let in.
        """
        self._attach_signals(self._signal)
        host, port = self._settings.bind
        with self._scope:
            listeners = await trio.open_tcp_listeners(port, host=host)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_probes, listeners, self._pages())
                await self._work(listeners[0].socket.getsockname()[:2])
                nursery.cancel_scope.cancel()
        for api in (self._to, *(feed.api for feed in self._feeds)):
            await api.aclose()
        return len(self.state.table.rows)

    async def _work(self, address: tuple[str, int]) -> None:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        settings = self._settings
        self._log("relay.started", member=self._member, stream=settings.stream, group=settings.group, to=self._to.url)
        async with trio.open_nursery() as nursery:
            for feed in self._feeds:
                nursery.start_soon(feed.begin)
        say(STDOUT, f"listening on http://{host}:{address[1]}\n")
        async with trio.open_nursery() as nursery:
            for feed in self._feeds:
                nursery.start_soon(feed.run)
            for task in (self._posting.run, self._look_ups.run, self._connection.run):
                nursery.start_soon(task)
            await self._asked.wait()
            await self._stop()
            nursery.cancel_scope.cancel()
        self._log("relay.stopped", left=len(self.state.table.rows), counts=dict(self.state.counts))

    async def _stop(self) -> None:
        state = self.state
        state.is_stopping = True
        with trio.move_on_after(POSTS_SECONDS_MAX):
            while state.posts_in_flight:
                await state.bell("stopping").wait(0.1)
        with trio.move_on_after(FLUSH_SECONDS_MAX):
            while state.table.settled and state.log is not None:
                await state.bell("stopping").wait(0.1)
        with trio.move_on_after(RELEASE_SECONDS_MAX):
            await self._connection.stop()

    def _signal(self, name: str, late_seconds: float) -> None:
        came_at = trio.current_time() - late_seconds
        if name == "SIGHUP":
            return  # --clients is read again by itself
        if not self._asked.is_set():
            self._log("relay.stopping", trigger=name)
            self._asked_at = came_at
            self._asked.set()
        elif came_at - self._asked_at > SECOND_SIGNAL_SECONDS:
            self._scope.cancel()

    def _pages(self) -> Pages:
        return {
            "/livez": lambda: Shown(200, TEXT, "alive\n"),
            "/readyz": self._readiness,
            "/metrics": lambda: Shown(200, METRICS, exposition(self.state, self._feeds)),
        }

    def _readiness(self) -> Shown:
        found = troubles(self.state, self._feeds)
        return Shown(503, TEXT, "".join(f"{one}\n" for one in found)) if found else Shown(200, TEXT, "ready\n")
