"""Owns `hookd report`: the newest report, or the one named; and which later run ended without one."""

import os
from pathlib import Path

import click
import msgspec

from hookd.cli.failures import fail
from hookd.cli.options import json_option
from hookd.cli.report_files import read_summary, say_claimed
from hookd.core.report import Summary
from hookd.core.report_text import text
from hookd.edge.reports import ReportDirectory
from hookd.process.exit_codes import ExitCode


@click.command()
@click.argument("file", required=False)
@click.option("--reports", metavar="DIR", default=None, help="Where to look for the newest.")
@json_option
def report(file: str | None, reports: str | None, as_json: bool) -> None:
    """Show the newest shutdown report, or the one named."""
    path = Path(file) if file else _newest(reports)
    summary, line = read_summary(path)
    if not file:
        _say_ended_without_report(path, summary)
    if as_json:
        click.echo(line.decode())
    else:
        click.echo(text(summary, path=str(path)), nl=False)
        say_claimed(path)


def _newest(reports: str | None) -> Path:
    state = os.environ.get("STATE_DIRECTORY")
    directory = (
        reports or os.environ.get("HOOKD_DRAIN__REPORT_DIRECTORY") or (f"{state}/reports" if state else "reports")
    )
    newest = ReportDirectory(directory).newest()
    if newest is None:
        _say_ended_without_report(Path(directory) / "none", None)
        fail(ExitCode.NO_INPUT, f"no report in {directory}; name one, or its directory with --reports")
    return newest


def _say_ended_without_report(newest: Path, summary: Summary | None) -> None:
    """The newest report is no good news where a later run has none."""
    reports = ReportDirectory(str(newest.parent))
    open_runs = reports.open_runs()
    if open_runs and reports.is_in_use():
        open_runs.pop()  # the newest is the one that runs
    for marker in open_runs:
        if (summary is None or marker.started_at > summary.started_at) and reports.of_run(marker.run_id) is None:
            click.echo(
                f"hookd: RUN {marker.run_id} ENDED WITHOUT A REPORT: started {marker.started_at}, "
                f"last heard of {marker.at}; the next start says what it left, if its recorder still stands",
                err=True,
            )
            if marker.counts:
                click.echo(f"hookd: its counts then: {msgspec.json.encode(marker.counts).decode()}", err=True)
