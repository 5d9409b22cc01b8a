"""Owns `hookd report`: the newest report, or the one named; and which later run ended without one.

With the newest come the others that nobody took up: after two kills, or a kill and a stop, the newest alone may list
nothing.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from hookd.cli.api_client import Refusal, Remote, Unreachable, Unreadable
from hookd.cli.completion import complete_directory, complete_file
from hookd.cli.configuration import load_or_exit
from hookd.cli.failures import fail
from hookd.cli.options import json_option, token_option, url_option
from hookd.cli.report_files import read_summary, say_claimed
from hookd.cli.terminal import tell
from hookd.core.bind import URL_DEFAULT, url_on_this_machine
from hookd.core.plurals import counted
from hookd.core.printable import printable_json
from hookd.core.report import Summary
from hookd.core.report_text import text
from hookd.edge.reports import ReportDirectory
from hookd.process.exit_codes import ExitCode

# Where the shipped unit, and a daemon without a configuration, write theirs.
USUAL = ("/var/lib/hookd/reports", "reports")
OTHERS_SHOWN_MAX = 10
# A daemon that hangs must not hold up whoever wants to read its report.
ASK_SECONDS_MAX = 3.0


@click.command()
@click.argument("file", required=False, shell_complete=complete_file)
@click.option("--reports", metavar="DIR", shell_complete=complete_directory, help="Where to look for the newest.")
@click.option(
    "--config", metavar="FILE", shell_complete=complete_file, help="The daemon's configuration, which says where."
)
@url_option
@token_option
@json_option
def report(
    file: str | None,
    reports: str | None,
    config: str | None,
    url: str | None,
    token_file: str | None,
    as_json: bool,
) -> None:
    """Show the newest shutdown report, or the one named.

    It looks in --reports, else where --config says, else where the daemon at --url says, else in
    /var/lib/hookd/reports and ./reports.
    """
    place = Place([]) if file else _place(reports, config, url, token_file)
    path = Path(file) if file else _newest(place, url)
    summary, line = read_summary(path)
    if place.doubt:
        tell(f"{place.doubt}; this is {path}, of run {summary.run_id} on {summary.host}, ended {summary.stopped_at}")
    if not file:
        _say_ended_without_report(path.parent, summary)
    is_claimed = say_claimed(path)
    if as_json:
        click.echo(printable_json(line).decode())
    else:
        click.echo(text(summary, path=str(path), url=url or place.url, is_claimed=is_claimed), nl=False)
    if not file:
        _say_other_unclaimed(path)


class Place(NamedTuple):
    """Where the newest may be, and where a daemon on it will be."""

    directories: Sequence[str]
    doubt: str = ""  # why the newest there may be of another daemon than the one that was named
    url: str = URL_DEFAULT


def _place(reports: str | None, config: str | None, url: str | None, token_file: str | None) -> Place:
    """The first source that knows it decides."""
    if reports:
        return Place([reports])
    if config:
        settings = load_or_exit(config, {}, dev=True).settings
        https = bool(settings.http.certificate_file)
        return Place([settings.drain.report_directory], url=url_on_this_machine(settings.http.bind, is_https=https))
    if set_here := os.environ.get("HOOKD_DRAIN__REPORT_DIRECTORY"):
        return Place([set_here])
    if state := os.environ.get("STATE_DIRECTORY"):
        return Place([f"{state}/reports"])
    return _of_daemon(url, token_file)


def _of_daemon(url: str | None, token_file: str | None) -> Place:
    """What the running daemon says; else where reports usually are, which is doubted where a daemon was named."""
    is_named = bool(url or os.environ.get("HOOKD_URL"))
    try:
        remote = Remote.named(url, token_file, timeout_seconds=ASK_SECONDS_MAX)
        status = remote.get("/v1/status").taken()
    except (Unreachable, Unreadable, Refusal) as error:
        if not is_named:
            return Place(USUAL)
        tell(f"{error}; looking in {' and '.join(USUAL)}")
        return Place(USUAL, doubt="it may be another daemon's")
    directory, run_id = status.get("report_directory"), status.get("run_id")
    if not isinstance(directory, str):
        return Place(USUAL)
    if not os.path.isdir(directory):
        why = f"the daemon at {remote.url} writes its reports to {directory}: not on this machine, or not for this user"
        fail(ExitCode.NO_INPUT, why)
    marks = f"the daemon at {remote.url} runs on another machine, or writes to another {directory}"
    return Place([directory], doubt="" if os.path.exists(f"{directory}/run-{run_id}.open") else marks)


def _newest(place: Place, url: str | None) -> Path:
    """The newest report of them all; where there is none, the runs without one are said all the same."""
    readable = [directory for directory in place.directories if os.access(directory, os.R_OK | os.X_OK)]
    found = [path for path in (ReportDirectory(one).newest() for one in readable) if path is not None]
    if not found:
        _none(place, readable, url or place.url)
    return max(found, key=lambda path: path.name.partition("-")[2])


def _none(place: Place, readable: Sequence[str], url: str) -> NoReturn:
    """It is no trouble where a daemon runs that has not stopped yet, and then it is said."""
    for directory in readable:
        _say_ended_without_report(Path(directory), None)
    closed = [directory for directory in place.directories if os.path.exists(directory) and directory not in readable]
    if closed:
        fail(ExitCode.NO_INPUT, f"{' and '.join(closed)} may not be read by this user")
    in_use = [directory for directory in readable if ReportDirectory(directory).is_in_use()]
    if in_use:
        writes = f"no report in {' or '.join(in_use)} yet: a daemon runs there, and writes one when it stops"
        status = "hookd status" if url == URL_DEFAULT else f"hookd status --url {shlex.quote(url)}"
        fail(ExitCode.NO_INPUT, f"{writes}. What it holds now: {status}")
    why = f"; {place.doubt}" if place.doubt else ""
    name = "name one, or its directory with --reports"
    fail(ExitCode.NO_INPUT, f"no report in {' or '.join(place.directories)}{why}; {name}")


def _say_ended_without_report(directory: Path, summary: Summary | None) -> None:
    """The newest report is no good news where a later run has none."""
    reports = ReportDirectory(str(directory))
    open_runs = reports.open_runs()
    if open_runs and reports.is_in_use():
        open_runs.pop()  # the newest is the one that runs
    for marker in open_runs:
        if (summary is None or marker.started_at > summary.started_at) and reports.of_run(marker.run_id) is None:
            tell(
                f"RUN {marker.run_id} ENDED WITHOUT A REPORT: started {marker.started_at}, "
                f"last heard of {marker.at}; the next start says what it left, if its recorder still stands"
            )
            if marker.counts:
                tell(f"its counts then: {_counts_text(marker.counts)}")


def _counts_text(counts: Mapping[str, object]) -> str:
    """Numbers first, then those of events and of deliveries: `54 accepted, 0 in flight; events 54 delivered`."""
    groups = {name: value for name, value in counts.items() if isinstance(value, dict)}
    plain = {name: value for name, value in counts.items() if name not in groups}
    parts = [_numbers_text(plain), *(f"{name} {_numbers_text(group)}" for name, group in groups.items())]
    return "; ".join(part for part in parts if part)


def _numbers_text(numbers: Mapping[str, object]) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in numbers.items())


def _say_other_unclaimed(shown: Path) -> None:
    """The newest is no good news where an older one lists something that nobody took up."""
    reports = ReportDirectory(str(shown.parent))
    others = [one.path for one in reports.unclaimed() if one.path != str(shown.absolute())]
    if not others:
        return
    tell(f"{counted(len(others), 'other report')} that nobody took up, the newest first:")
    for path in others[: -OTHERS_SHOWN_MAX - 1 : -1]:
        tell(f"  {path}")
    if len(others) > OTHERS_SHOWN_MAX:
        tell(f"  and {len(others) - OTHERS_SHOWN_MAX:,} more beside them, without a file NAME.claimed-by-RUN")
