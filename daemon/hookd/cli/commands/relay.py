"""Owns `hookd relay`: takes its options, and hands them to one run of the relay."""

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hookd.cli.api_client import Unreadable, token_in
from hookd.cli.completion import complete_file
from hookd.cli.failures import fail, usage
from hookd.config.named_file import read_named
from hookd.core.bind import URL_DEFAULT, parse_bind
from hookd.core.json_depth import DEPTH_MAX
from hookd.core.plurals import are
from hookd.core.units import parse_duration, parse_size
from hookd.edge.logs import LogWriter, capture_libraries, form_on
from hookd.edge.streams import STDERR
from hookd.process.exit_codes import ExitCode

if TYPE_CHECKING:
    from hookd.relay.relaying import RelaySettings

LOG_CLOSE_SECONDS = 0.5
T = TypeVar("T")
FRAMES = 1000  # a payload's levels are counted by Python's limit of recursion
TAKEOVER_SECONDS_MIN = 5.0


@click.command()
@click.option(
    "--redis", "redis_url", metavar="URL", required=True, help="redis://HOST:PORT/DB, rediss://… or unix:///PATH"
)
@click.option("--stream", metavar="NAME", required=True, help="The stream; an entry has client, type, id and payload.")
@click.option("--group", metavar="NAME", required=True, help="The consumer group; it is made where there is none.")
@click.option("--to", metavar="URL", help="The daemon, or the proxy in front of several (HOOKD_URL).")
@click.option("--feed", "feeds", metavar="URL", multiple=True, help="A daemon whose feed to read, one for each (--to).")
@click.option(
    "--token-file", metavar="FILE", shell_complete=complete_file, help="A file with the token (HOOKD_TOKEN_FILE)."
)
@click.option(
    "--clients",
    metavar="FILE",
    shell_complete=complete_file,
    help="Definitions of clients that a daemon may not know, as PUT /v1/clients.",
)
@click.option(
    "--bind", metavar="HOST:PORT", default="127.0.0.1:8070", show_default=True, help="/livez, /readyz, /metrics."
)
@click.option(
    "--parked-max",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Entries held for one stuck client.",
)
@click.option(
    "--owed-max",
    metavar="N",
    type=click.IntRange(1000),
    default=100_000,
    show_default=True,
    help="Entries that it answers for at once.",
)
@click.option("--held-bytes-max", metavar="SIZE", default="64MiB", show_default=True, help="Of entries that wait.")
@click.option(
    "--takeover", metavar="TIME", default="15s", show_default=True, help="A relay not seen for so long is gone."
)
@click.pass_obj
def relay(held: list[str], /, **options: Any) -> None:
    """Post a Redis stream's entries to hookd, and acknowledge each once its event is settled.

    \b
    Nothing that was added to the stream is lost by a kill of hookd, of the relay or
    of Redis (with AOF). Several may run. What is given up goes to STREAM:exhausted,
    what can never be posted to STREAM:refused. Needs `pip install hookd[redis]`.
    """
    try:
        from hookd.relay.daemon_api import Denied
        from hookd.relay.log_troubles import LogRefused
        from hookd.relay.relaying import Relaying
    except ModuleNotFoundError as missing:
        fail(ExitCode.UNAVAILABLE, f"the relay needs {missing.name}: pip install 'hookd[redis]'")
    import trio

    from hookd.edge.signals import Signals

    settings = _settings(options)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    signals = Signals(held)
    log = _log()
    problem: tuple[ExitCode, str] | None = None
    left = 0
    try:
        left = trio.run(Relaying(settings, log, signals.attach).run)
    except* OSError as group:
        problem = ExitCode.UNAVAILABLE, f"cannot bind {options['bind']}: {_first(group)}; name another with --bind"
    except* Denied as group:
        problem = ExitCode.NO_PERMISSION, f"the daemon refuses the token: {_first(group)}"
    except* LogRefused as group:
        problem = ExitCode.NO_PERMISSION, f"Redis refuses the relay: {_first(group)}"
    finally:
        signals.detach()
        log.close(timeout_seconds=LOG_CLOSE_SECONDS)
    if problem is not None:
        fail(*problem)
    if left:
        fail(ExitCode.UNDELIVERED, f"{are(left, 'entry')} owed, and pending in Redis for the next relay")


def _log() -> LogWriter:
    """Of the relay and of its libraries, on stderr."""
    form = form_on(STDERR, os.environ)
    log = LogWriter(STDERR, pretty=form.pretty, colours=form.colours, priorities=form.priorities, wall=time.time)
    capture_libraries(log)
    return log


def _settings(options: dict[str, Any]) -> "RelaySettings":
    """Of the options; a mistake in one ends the command."""
    from hookd.relay.definitions_file import CannotRead, DefinitionsFile, NoDefinitions
    from hookd.relay.http_origin import checked_origin
    from hookd.relay.lanes import Limits
    from hookd.relay.redis_log import checked_name, checked_url
    from hookd.relay.relaying import RelaySettings

    to = options["to"] or os.environ.get("HOOKD_URL") or URL_DEFAULT
    token_file = options["token_file"] or os.environ.get("HOOKD_TOKEN_FILE")
    definitions = options["clients"]
    try:
        return RelaySettings(
            redis_url=_option("redis", options["redis_url"], checked_url),
            stream=_option("stream", options["stream"], checked_name),
            group=_option("group", options["group"], checked_name),
            to=_option("to", to, checked_origin),
            feeds=[_option("feed", feed, checked_origin) for feed in options["feeds"] or (to,)],
            bind=_option("bind", options["bind"], _address),
            token=token_in(token_file, waits=False) if token_file else None,
            definitions=DefinitionsFile(definitions, read_named) if definitions else None,
            limits=Limits(
                options["parked_max"],
                options["owed_max"],
                _option("held-bytes-max", options["held_bytes_max"], parse_size),
            ),
            takeover_seconds=_option("takeover", options["takeover"], _takeover_seconds),
        )
    except (Unreadable, CannotRead) as error:
        fail(ExitCode.NO_INPUT, str(error))
    except NoDefinitions as error:
        fail(ExitCode.CONFIG, str(error))


def _option(name: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        usage(f"--{name}: {error}")


def _address(text: str) -> tuple[str, int]:
    bind = parse_bind(text)
    if not bind.host:
        raise ValueError("write HOST:PORT")
    return bind.host, bind.port


def _takeover_seconds(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < TAKEOVER_SECONDS_MIN:
        raise ValueError(f"at least {TAKEOVER_SECONDS_MIN:g}s: a relay that waits for Redis is alive")
    return seconds


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
