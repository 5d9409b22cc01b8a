"""Owns `hookd check`: what a configuration means, and what it can cost, without binding anything."""

import os
from typing import TYPE_CHECKING

import click

from hookd.cli.completion import complete_file
from hookd.cli.configuration import load_or_exit
from hookd.core.printable import printable

if TYPE_CHECKING:
    from hookd.core.settings import Settings


@click.command()
@click.argument("file", shell_complete=complete_file)
@click.option("--dev", is_flag=True, help="Judge it as `hookd run --dev` would.")
def check(file: str, dev: bool) -> None:
    """Load and validate a configuration without binding; say what it can cost."""
    from hookd.core.settings_checks import who_gets_in
    from hookd.core.sizing import container_mib, horizon_seconds, worst_case_bytes
    from hookd.core.time_text import span
    from hookd.core.units import approximate_size

    loaded = load_or_exit(file, {}, dev=dev)
    settings = loaded.settings
    for warning in loaded.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    parts = worst_case_bytes(settings)
    click.echo(f"{printable(file)}: valid")
    for line in who_gets_in(settings):
        click.echo(printable(line))
    click.echo(f"worst-case memory: {approximate_size(sum(parts.values()))}")
    for name, size in sorted(parts.items(), key=lambda part: -part[1]):
        click.echo(f"  {approximate_size(size):>10}  {name}")
    click.echo(f"limit for a container: {container_mib(settings)}MiB, the sum of these, all full at once")
    _say_sums(settings, parts)
    _say_recorder(settings)
    _say_egress(settings)
    click.echo(f"a restart {'takes back what was left undelivered' if settings.recovery.enabled else 'starts empty'}")

    def horizon(name: str, schedule_seconds: tuple[float, ...]) -> None:
        earliest, latest = horizon_seconds(schedule_seconds, settings.retry.jitter)
        click.echo(
            f"  {name}: {1 + len(schedule_seconds)} attempts over {span(earliest)} to {span(latest)}, "
            "and up to one timeout for each"
        )

    click.echo("attempts and horizon:")
    horizon("default", settings.retry.schedule_seconds)
    for client in settings.clients:
        for endpoint in client.endpoints:
            own = endpoint.schedule_seconds
            horizon(f"{client.id}/{endpoint.id}", settings.retry.schedule_seconds if own is None else own)


def _say_sums(settings: "Settings", parts: dict[str, int]) -> None:
    """What that is made of, and the disk besides."""
    from hookd.core.sizing import PROGRAM, RECORDER, report_bytes_max
    from hookd.core.units import approximate_size

    budgets = approximate_size(sum(parts.values()) - parts[PROGRAM] - parts[RECORDER])
    program, recorder = approximate_size(parts[PROGRAM]), approximate_size(parts[RECORDER])
    click.echo(f"  that is the program at rest ({program}), the recorder's files ({recorder}) and budgets ({budgets})")
    each, kept = report_bytes_max(settings), settings.drain.reports_kept
    click.echo(
        f"disk for reports: {approximate_size(each)} for one, {approximate_size(kept * each)} for {kept} of them"
    )
    click.echo("  a report whose events nobody took back is kept beyond that number")


def _say_egress(settings: "Settings") -> None:
    """Nothing where endpoints are reached straight and with no certificate."""
    from hookd.core.certificate_validity import validity
    from hookd.core.timestamps import rfc3339

    shared = settings.egress.shared
    if shared is not None and shared.client_certificate:
        expires_at = rfc3339(validity(shared.client_certificate)[1])
        click.echo(f"client certificate: shown to endpoints until {expires_at}")
    if shared is not None and shared.proxy is not None:
        click.echo(f"proxy: {shared.proxy.shown}, which judges the names of endpoints in hookd's place")


def _say_recorder(settings: "Settings") -> None:
    """How many events fit: a full recorder refuses them, whatever the budget says."""
    from hookd.core.budget import client_share
    from hookd.core.sizing import recorder_layout
    from hookd.core.units import approximate_size
    from hookd.edge.recorder_files import CannotRecord, free_bytes, place, size_bytes

    recorder, plan = settings.recorder, recorder_layout(settings)
    if not recorder.directory:
        click.echo("flight recorder: off; a kill leaves no list of what was lost")
        return
    reports = settings.drain.report_directory
    try:
        where = place(recorder.directory, report_directory=reports, environ=os.environ, dev=settings.dev)
    except CannotRecord as error:
        click.echo(f"flight recorder: {printable(error)}")
        return
    free = free_bytes(where.directory)
    bytes_max = recorder.bytes_max if free is None else min(recorder.bytes_max, free)
    size = size_bytes(where.directory)
    if size is not None and size < recorder.bytes_max:
        less = f"{approximate_size(size)}, less than recorder.bytes_max ({approximate_size(recorder.bytes_max)})"
        click.echo(f"warning: recorder.directory: {printable(where.directory)} has {less}", err=True)
    payload_bytes, of = (1024, "with payloads of 1 KiB") if recorder.payloads else (0, "without payloads")
    room = "" if free is None else f", where {approximate_size(free)} are free"
    events = plan.events_max(bytes_max, payload_bytes=payload_bytes)
    click.echo(f"flight recorder: about {events:,} unsettled events of one delivery, {of}")
    share = client_share(settings.intake)
    if share < 1:
        click.echo(f"  one client at most {int(events * share):,} of them: beyond its share it gets 429")
    click.echo(f"  {approximate_size(recorder.bytes_max)} at most, in {printable(where)}{room}")
