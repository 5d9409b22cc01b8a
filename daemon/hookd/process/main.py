"""Owns the daemon as one process of this machine: what it takes at the start, and gives back at the end.

In this order: descriptors, the report and recorder directories under their locks, the log, the certificate, what an
earlier run left. Then the supervisor runs once over the real world. Whatever is missing ends the start before anything
is served: CannotStart.

Does not: read the configuration (config/) or parse arguments (cli/).
"""

import os
import platform
import random
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec
import trio

from hookd import __version__
from hookd.core.bind import url_on_this_machine
from hookd.core.certificate_validity import validity
from hookd.core.run import Run
from hookd.core.settings import HttpSettings, Settings
from hookd.core.sizing import recorder_layout
from hookd.core.timestamps import rfc3339
from hookd.edge import recorder_files
from hookd.edge import reports as report_files
from hookd.edge.api.metrics import process_metrics
from hookd.edge.clock import LoopClock, SystemClock
from hookd.edge.descriptors import raise_limit, shares
from hookd.edge.egress import open_sender, tls_mistakes
from hookd.edge.event_ids import EventIds
from hookd.edge.garbage import Garbage
from hookd.edge.logs import LogWriter, capture_libraries, form_on
from hookd.edge.loop_watch import LoopWatch
from hookd.edge.recorder_files import CannotRecord, RecorderDirectory
from hookd.edge.reports import CannotWriteReports, ReportDirectory
from hookd.edge.server.api_server import Server
from hookd.edge.server.sockets import CannotBind, addresses_of
from hookd.edge.server.tls import BadCertificate, Tls
from hookd.edge.signals import Signals
from hookd.edge.streams import STDERR, STDOUT, say
from hookd.edge.systemd import Systemd, handed_over
from hookd.flow.ports import Unclaimed
from hookd.process.crash_reports import write_crash_reports
from hookd.process.exit_codes import ExitCode
from hookd.process.greeting import greeting
from hookd.process.outside import Outside
from hookd.process.reloading import ReloadRefused
from hookd.process.supervisor import supervise
from hookd.process.tracing import tracing_from

# For a reader that is slow; one that is stuck must not hold the exit beyond drain.timeout + 2 s.
LOG_CLOSE_SECONDS = 1.5
# For the exporter of spans, where there is one: within the same 2 s.
TRACES_CLOSE_SECONDS = 0.4
# Whoever may write in shared memory may make as many as there is room for.
PASSED_OVER_SHOWN = 3


class CannotStart(Exception):
    """The message is for people."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_process(
    settings: Settings, sockets: Sequence[socket.socket], held: list[str], reload: Callable[[], Settings]
) -> ExitCode:
    """One run, to its end. `held` are the signals that came before. Raises CannotStart."""
    limit = raise_limit()
    wanted, settings = settings.delivery.connections_max, _within_descriptors(settings, limit)
    signals = Signals(held)
    reports = _own_reports(settings.drain.report_directory)
    recorder_directory = _own_recorder_directory(settings)
    form = form_on(STDERR, os.environ)
    log = LogWriter(STDERR, pretty=form.pretty, colours=form.colours, priorities=form.priorities)
    log.choose(settings.log)
    capture_libraries(log)
    if recorder_directory is not None and recorder_directory.passed_over:
        _say_passed_over(recorder_directory, log)
    tls = _tls(settings.http)
    _say_descriptors(settings, limit, wanted, log)
    _say_client_certificate(settings, log)
    reloaded = partial(_reloaded, reload, tls=tls, log=log, limit=limit)
    outside = _outside(
        settings,
        sockets,
        log=log,
        tls=tls,
        reports=reports,
        signals=signals,
        reload=reloaded,
        is_terminal=form.pretty,
    )
    try:
        return _run(settings, outside, reports, recorder_directory)
    except CannotRecord as error:
        raise CannotStart(ExitCode.CONFIG, f"recorder.directory: {error}") from error
    except CannotBind as error:
        raise CannotStart(ExitCode.UNAVAILABLE, f"cannot bind {error}") from error
    finally:
        signals.detach()
        if recorder_directory is not None:
            recorder_directory.close()
        log.close(timeout_seconds=LOG_CLOSE_SECONDS)


def _outside(
    settings: Settings,
    sockets: Sequence[socket.socket],
    *,
    log: LogWriter,
    tls: Tls | None,
    reports: ReportDirectory,
    signals: Signals,
    reload: Callable[[], Settings],
    is_terminal: bool,
) -> Outside:
    """The real world; what is recorded, and the runs before this one, are added by `_run`."""
    own_sockets = addresses_of(sockets)
    return Outside(
        clock=SystemClock(),
        log=log,
        open_sender=partial(open_sender, own_sockets=lambda: own_sockets),
        reports=reports,
        manager=Systemd(os.environ),
        server=partial(
            Server,
            sockets=sockets,
            log=log,
            tls=tls,
            connections_max=settings.http.connections_max,
            held_descriptors=handed_over(os.environ),
            shard=settings.shard.name,
        ),
        attach_signals=signals.attach,
        random_bytes=secrets.token_bytes,
        jitter_unit=random.Random().random,
        new_event_id=EventIds(shard=settings.shard.name).new,
        announce=partial(_announce, log=log, settings=settings if is_terminal else None),
        reload=reload,
        choose_lines=log.choose,
        prove_tls=partial(tls_mistakes, wall=time.time),
        process_metrics=process_metrics(),
        tell_person=log.text if is_terminal else None,
        certificate_expires_at=lambda: None if tls is None else tls.expires_at,
    )


def _run(
    settings: Settings, outside: Outside, reports: ReportDirectory, recorder_directory: RecorderDirectory | None
) -> ExitCode:
    """Reports of crashes first, then one run of the supervisor. Raises CannotRecord or CannotBind."""
    wall, shard = SystemClock().wall(), settings.shard.name
    run = Run(secrets.token_hex(8), __version__, platform.node(), os.getpid(), wall, shard)
    url = url_on_this_machine(settings.http.bind, is_https=bool(settings.http.certificate_file))
    write_crash_reports(recorder_directory, reports, outside.log, recovery=settings.recovery.enabled, url=url)
    is_unaccounted = recorder_directory is not None and bool(recorder_directory.left_behind())
    outside = outside._replace(
        past_runs=reports.past_runs(),
        unclaimed_reports=_unclaimed(reports),
        is_unaccounted=is_unaccounted,
    )
    if recorder_directory is not None:
        recorder = recorder_directory.recorder(run, recorder_layout(settings), payloads=settings.recorder.payloads)
        outside = outside._replace(recorder=recorder)
    garbage, loop_watch, loop_clock = Garbage(), LoopWatch(), LoopClock()
    outside = outside._replace(loop_watch=loop_watch, clock=SystemClock(monotonic=loop_clock.current_time))
    tracing = tracing_from(os.environ, outside.log)
    if tracing is not None:
        outside = outside._replace(open_sender=tracing.open_sender(outside.open_sender), intake=tracing.intake)
    garbage.take_over()
    try:
        # In this order: the watch sees what collecting takes.
        return trio.run(supervise, settings, outside, run, clock=loop_clock, instruments=[garbage, loop_watch])
    finally:
        if tracing is not None:
            tracing.close(timeout_seconds=TRACES_CLOSE_SECONDS)


def _unclaimed(reports: ReportDirectory) -> Sequence[Unclaimed]:
    """None where the directory cannot be read: the start goes on, and the next look finds them."""
    with suppress(OSError):
        return reports.unclaimed()
    return ()


def _within_descriptors(settings: Settings, limit: int) -> Settings:
    """The settings with no more connections, of either side, than the descriptor limit has room for."""
    delivery, http = settings.delivery, settings.http
    most = shares(limit, deliveries_max=delivery.connections_max, api_max=http.connections_max)
    return msgspec.structs.replace(
        settings,
        delivery=msgspec.structs.replace(delivery, connections_max=most.deliveries),
        http=msgspec.structs.replace(http, connections_max=most.api),
    )


def _say_descriptors(settings: Settings, limit: int, wanted: int, log: LogWriter) -> None:
    """`wanted` is the configuration's `delivery.connections_max`."""
    log(
        "descriptors",
        limit=limit,
        connections_max=settings.delivery.connections_max,
        api_connections_max=settings.http.connections_max,
        capped=settings.delivery.connections_max < wanted,
    )


def _tls(http: HttpSettings) -> Tls | None:
    """None for plain http."""
    if not http.certificate_file:
        return None
    try:
        return Tls(http.certificate_file, http.key_file, wall=time.time)
    except BadCertificate as bad:  # it was good a moment ago
        raise CannotStart(ExitCode.CONFIG, str(bad)) from bad


def _reloaded(reload: Callable[[], Settings], *, tls: Tls | None, log: LogWriter, limit: int) -> Settings:
    """Raises ReloadRefused."""
    settings = _renewed(reload(), tls, log)
    _say_client_certificate(settings, log)
    return _within_descriptors(settings, limit)


def _renewed(settings: Settings, tls: Tls | None, log: LogWriter) -> Settings:
    """The settings, once TLS goes by their certificate. Raises ReloadRefused."""
    file = settings.http.certificate_file
    if tls is not None and file:
        try:
            tls.renew(file, settings.http.key_file)
        except BadCertificate as bad:
            raise ReloadRefused([str(bad)]) from bad
        log("certificate.read", certificate_file=file, expires_at=rfc3339(tls.expires_at))
    return settings


def _say_client_certificate(settings: Settings, log: LogWriter) -> None:
    """Until when that of `[egress]` is valid: endpoints refuse it from then on."""
    shared, file = settings.egress.shared, settings.egress.client_certificate_file
    if shared is not None and shared.client_certificate:
        expires_at = rfc3339(validity(shared.client_certificate)[1])
        log("client_certificate.read", client_certificate_file=file, expires_at=expires_at)


def _own_reports(directory: str) -> ReportDirectory:
    """The report directory, ours alone from here on."""
    reports = ReportDirectory(directory)
    try:
        reports.prove_writable()
        reports.lock()
    except CannotWriteReports as error:
        detail = f"drain.report_directory cannot be used: {error}; --reports names another"
        raise CannotStart(ExitCode.CONFIG, detail) from error
    except report_files.InUse as error:
        raise CannotStart(ExitCode.UNAVAILABLE, str(error)) from error
    return reports


def _own_recorder_directory(settings: Settings) -> RecorderDirectory | None:
    """The recorder's directory, ours alone from here on; None where the recorder is switched off."""
    name, reports = settings.recorder.directory, settings.drain.report_directory
    if not name:
        return None
    try:
        where = recorder_files.place(name, report_directory=reports, environ=os.environ, dev=settings.dev)
        directory = RecorderDirectory(where)
    except CannotRecord as error:
        raise CannotStart(ExitCode.CONFIG, f"recorder.directory: {error}") from error
    except recorder_files.InUse as error:
        raise CannotStart(ExitCode.UNAVAILABLE, str(error)) from error
    if not directory.is_memory:
        detail = f"recorder.directory: {directory.where} is not in memory (tmpfs)"
        if not settings.dev:
            directory.close()
            raise CannotStart(ExitCode.CONFIG, f'{detail}; name a folder that is, or "" to switch the recorder off')
        note = form_on(STDERR, os.environ).note(time.time(), f"{detail}; taken under --dev only", "warning")
        say(STDERR, note)
    return directory


def _say_passed_over(directory: RecorderDirectory, log: LogWriter) -> None:
    """Somebody else has the name of the recorder's folder; nothing of theirs was opened."""
    found = directory.passed_over
    shown = [f"{directory.where.directory}/{one.name}: {one.why}" for one in found[:PASSED_OVER_SHOWN]]
    log("recorder.passed_over", level="warning", folder=str(directory.where), count=len(found), passed_over=shown)


def _announce(urls: Sequence[str], *, log: LogWriter, settings: Settings | None) -> None:
    """`settings` where a person at a terminal reads it."""
    for url in urls:
        if problem := say(STDOUT, f"listening on {url}\n"):  # who looks for it finds it in the log, as daemon.started
            log("stdout.not_written", level="warning", error=problem, line=f"listening on {url}")
    if settings is not None and urls:
        log.text(greeting(urls[0], settings))
