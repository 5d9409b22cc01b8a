"""The reload at SIGHUP: the whole configuration is taken, or none of it.

Rules:
 1. A mistake anywhere leaves every setting as it was, and the log says which. So does a bug in what reads.
 2. A setting that only a restart can change is taken too, and the log names its section.
 3. What raises while the settings are taken leaves half of them in force: whoever called ends the run.

Does not: read the configuration; whoever starts the daemon hands that in as `read`, which raises ReloadRefused.
"""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.guard import said_of
from hookd.core.refusal import RegistryFull
from hookd.core.ring import Ring
from hookd.core.settings import LogSettings, Settings
from hookd.flow.ports import Clock, Log
from hookd.flow.registration import Registration

# These take a restart; but for the tokens, which are read at each request.
RESTART_NEEDED = ("http", "recorder", "recovery", "shard")


class ReloadRefused(Exception):
    """The new configuration has mistakes; `lines` name them."""

    lines: tuple[str, ...]

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class Reloading:
    """`started_at` (wall) is when the configuration in force was read at first."""

    def __init__(
        self,
        read: Callable[[], Settings],
        *,
        started_at: float,
        effective: EffectiveSettings,
        registration: Registration,
        rings: Sequence[Ring[Any, Any]],
        choose_lines: Callable[[LogSettings], None],
        clock: Clock,
        log: Log,
    ) -> None:
        self._read = read
        self._effective = effective
        self._registration = registration
        self._rings = rings
        self._choose_lines = choose_lines
        self._clock = clock
        self._log = log
        self.is_successful = True  # the last of them, the start counted
        self.succeeded_at = started_at

    def reload(self) -> None:
        """Sync, so no attempt and no request sees half of it."""
        try:
            now, settings = self._clock.now().wall, self._read()
        except ReloadRefused as refused:
            self._refuse(refused.lines)
        except Exception as error:
            self._refuse([f"hookd could not read it: {said_of(error)}"], traceback=traceback.format_exc())
        else:
            self._take(settings, now)

    def _take(self, settings: Settings, now: float) -> None:
        old, self._effective.settings = self._effective.settings, settings
        try:
            ended = self._registration.take_config(settings.clients)
        except RegistryFull as refused:  # with the clients that the API registered; nothing was changed yet
            self._effective.settings = old
            return self._refuse([refused.detail])
        self._choose_lines(settings.log)
        for ring in self._rings:
            ring.trim()
        self.is_successful, self.succeeded_at = True, now
        self._log(
            "config.reloaded",
            level="warning" if ended else "info",
            clients=len(settings.clients),
            deliveries_ended=ended,
            tokens=[token.name for token in settings.http.tokens],
            restart_needed_for=_restart_needed_for(old, settings),
        )
        return None

    def _refuse(self, mistakes: Sequence[str], **fields: str) -> None:
        self.is_successful = False
        self._log("config.refused", level="error", mistakes=mistakes, **fields)


def _restart_needed_for(old: Settings, new: Settings) -> list[str]:
    sections = {name: getattr(old, name) for name in RESTART_NEEDED}
    sections["http"] = msgspec.structs.replace(old.http, tokens=new.http.tokens)
    restart = [name for name, section in sections.items() if section != getattr(new, name)]
    if old.drain.report_directory != new.drain.report_directory:
        restart.append("drain.report_directory")
    return restart
