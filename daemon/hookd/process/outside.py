"""What the supervisor is handed: everything that is not ours, from the clock to the report directory.

Tests hand in virtual time, scripted senders and their own sockets, and run the whole daemon.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

import trio

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import ProveTls, unproved
from hookd.core.no_recorder import NOTHING_RECORDED
from hookd.core.notices import Notices
from hookd.core.recorder import Recorder
from hookd.core.run_history import PastRun
from hookd.core.settings import LogSettings, Settings
from hookd.core.settlements import Settlements
from hookd.edge.reports_watch import Provable
from hookd.edge.server import Server
from hookd.flow import final_report, recovery
from hookd.flow.intake import Intake
from hookd.flow.ports import Channel, Clock, JitterUnit, LoopWatch, NothingWatched, Sender, Unclaimed
from hookd.process.service_manager import ServiceManager


class LogWriter(Channel, Protocol):
    @property
    def lines_dropped(self) -> int: ...


class Reports(final_report.Reports, recovery.Reports, Provable, Protocol):
    """The report directory."""


async def in_own_thread(work: Callable[..., Any], *args: Any) -> Any:
    """Runs work that blocks, and may hang for ever, in a thread of its own. A cancelled wait leaves the thread behind.

    Where the system has no thread left, the work is done at once: a report that holds the loop is better than none.
    """
    began = False

    def begin() -> Any:
        nonlocal began
        began = True
        return work(*args)

    try:
        return await trio.to_thread.run_sync(begin, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    except RuntimeError:
        if began:
            raise
        return begin()


class Outside(NamedTuple):
    """What is not ours."""

    clock: Clock
    log: LogWriter
    open_sender: Callable[[EffectiveSettings], AbstractAsyncContextManager[Sender]]
    reports: Reports
    manager: ServiceManager
    server: Callable[..., Server]
    attach_signals: Callable[[Callable[[str, float], None]], None]  # a signal, and the seconds since it came
    random_bytes: Callable[[int], bytes]
    jitter_unit: JitterUnit
    new_event_id: Callable[[], str]
    announce: Callable[[Sequence[str]], None]
    reload: Callable[[], Settings]
    """Reads the configuration again; raises ReloadRefused."""
    choose_lines: Callable[[LogSettings], None] = lambda _: None
    """Has the log leave out what `[log]` does, from now on."""
    prove_tls: ProveTls = unproved
    """Looks into certificates and keys that the API is given."""
    in_thread: Callable[..., Awaitable[Any]] = in_own_thread
    """Files are written through it; virtual time has no threads."""
    recorder: Recorder = NOTHING_RECORDED
    intake: Callable[..., Intake] = Intake
    """Makes the intake; with spans, one that is traced."""
    settlements: Callable[[EffectiveSettings], Settlements] = Settlements
    """Makes the settlement feed's ring."""
    notices: Callable[[EffectiveSettings], Notices] = Notices
    """Makes the notices feed's ring."""
    loop_watch: LoopWatch = NothingWatched()
    process_metrics: Callable[[], Iterable[Any]] = tuple
    """What the system says of this process, for a scrape; virtual time has none."""
    is_unaccounted: bool = False
    """A run before this one left a recording, and its report could not be written."""
    past_runs: Sequence[PastRun] = ()
    """Those of which a report or a marker is left."""
    tell_person: Callable[[str], object] | None = None
    """Writes text to the terminal that it was started from; None: there is none."""
    unclaimed_reports: Sequence[Unclaimed] = ()
    """Of these, those that list something undelivered, and that nobody has taken up."""
    certificate_expires_at: Callable[[], float | None] = lambda: None
    """Of the API's certificate (wall); None: it has none."""
