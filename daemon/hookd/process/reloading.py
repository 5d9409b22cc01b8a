"""The reload at SIGHUP: the whole configuration is taken, or none of it.

Rules: a mistake anywhere leaves every setting as it was, and the log says which. A setting that only a restart can
change is taken too, and the log names its section.

Does not: read the configuration; whoever starts the daemon hands that in as `read`, which raises ReloadRefused.
"""

from collections.abc import Callable, Sequence

import msgspec

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import RegistryFull
from hookd.core.settings import Settings
from hookd.core.settlements import Settlements
from hookd.flow.ports import Log
from hookd.flow.registration import Registration

# These take a restart; but for the tokens, which are read at each request.
RESTART_NEEDED = ("http", "recorder", "recovery", "shard")


class ReloadRefused(Exception):
    """The new configuration has mistakes; `lines` name them."""

    lines: tuple[str, ...]

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


def reload(
    read: Callable[[], Settings],
    *,
    effective: EffectiveSettings,
    registration: Registration,
    settlements: Settlements,
    log: Log,
) -> None:
    """Sync, so no attempt and no request sees half of it."""
    try:
        settings = read()
    except ReloadRefused as refused:
        log("config.refused", level="error", mistakes=refused.lines)
        return
    old, effective.settings = effective.settings, settings
    try:
        registration.take_config(settings.clients)
    except RegistryFull as refused:  # with the clients that the API registered; nothing was changed yet
        effective.settings = old
        log("config.refused", level="error", mistakes=[refused.detail])
        return
    settlements.trim()
    log(
        "config.reloaded",
        clients=len(settings.clients),
        tokens=[token.name for token in settings.http.tokens],
        restart_needed_for=_restart_needed_for(old, settings),
    )


def _restart_needed_for(old: Settings, new: Settings) -> list[str]:
    sections = {name: getattr(old, name) for name in RESTART_NEEDED}
    sections["http"] = msgspec.structs.replace(old.http, tokens=new.http.tokens)
    restart = [name for name, section in sections.items() if section != getattr(new, name)]
    if old.drain.report_directory != new.drain.report_directory:
        restart.append("drain.report_directory")
    return restart
