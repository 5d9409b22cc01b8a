"""The command line: parses, calls, prints, and turns what happened into an exit code. Nothing is decided here.

Data goes to stdout, messages to stderr. Heavy modules are imported inside the commands, so that `--help`, `report`
and `send` start at once.
"""

import gc
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from hookd import __version__
from hookd.cli.api_client import Answer, Refusal, Remote, Unreachable
from hookd.core.client import Client, ClientRules, InvalidClient, client_from
from hookd.core.report import Summary
from hookd.core.report_text import text
from hookd.core.signature import SECRET_BYTES, make_secret
from hookd.edge.streams import STDERR, say

if TYPE_CHECKING:
    from hookd.config.file import Loaded

EXIT_BUG, EXIT_UNDELIVERED, EXIT_UNAVAILABLE, EXIT_CONFIG = 1, 3, 69, 78
FOLLOW_EVERY_SECONDS = 0.2
STATUS_SECONDS_MAX = 5.0  # for each answer; who watches should see soon that none comes

url_option = click.option("--url", metavar="URL", help="The daemon's address (HOOKD_URL; http://127.0.0.1:8080).")
token_option = click.option("--token-file", metavar="FILE", help="A file with the token (HOOKD_TOKEN_FILE).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hookd")
def hookd() -> None:
    """Webhook delivery from memory: events in over HTTP, deliveries out, and a report of what was left.

    \b
    hookd demo                      see it deliver, fail, recover and stop
    hookd run --dev --client acme=http://127.0.0.1:9000/hook
    hookd receive                   a receiver to develop against
    hookd send acme invoice.paid '{"amount": 42}'
    hookd status                    how it is, and whose endpoints need someone
    hookd explain acme              what it waits for, until when, and what ends it
    """


@hookd.command()
@click.option("--config", metavar="FILE", help="A TOML file; config/hookd.toml shows every key.")
@click.option("--bind", "binds", metavar="HOST:PORT", multiple=True, help="Listen here; port 0 picks one.")
@click.option("--dev", is_flag=True, help="Allow plain http and loopback or private addresses as endpoints.")
@click.option("--client", "clients", metavar="ID=URL", multiple=True, help="Register a client with one endpoint.")
@click.option("--reports", metavar="DIR", help="Where the shutdown report is written.")
@click.pass_obj
def run(
    held: list[str],
    config: str | None,
    binds: tuple[str, ...],
    dev: bool,
    clients: tuple[str, ...],
    reports: str | None,
) -> None:
    """Run the daemon. It needs no configuration."""
    from hookd.edge.exposure import exposed
    from hookd.edge.server import CannotBind, bound_sockets
    from hookd.process.main import CannotStart, run_process

    flags = {"http.bind": binds or None, "drain.report_directory": reports}
    loaded = _load(config, flags, dev=dev)
    settings, made = _with_clients(loaded, clients)
    for warning in loaded.warnings:
        say(STDERR, f"hookd: {warning}\n")
    if dev:
        say(STDERR, "hookd: --dev: plain http and private addresses are allowed as endpoints\n")
    for client_id, secret in made:
        say(STDERR, f"hookd: the secret of client {client_id}, shown this once: {secret}\n")
    try:
        sockets = bound_sockets(settings.http.bind)
    except CannotBind as error:
        _fail(EXIT_UNAVAILABLE, f"cannot bind {error}")
    open_to_others = ", ".join(exposed(sockets))
    if open_to_others and not settings.http.tokens:
        _fail(EXIT_CONFIG, f"other machines can reach {open_to_others}, and no [[http.tokens]] are configured")

    def reload() -> Any:
        from hookd.process.supervisor import ReloadRefused

        again = _load_or_raise(config, flags, dev=dev, refused=ReloadRefused)
        if open_to_others and not again.settings.http.tokens:  # whatever http.bind says now, these sockets stay
            raise ReloadRefused([f"http.tokens: none are left, and other machines can reach {open_to_others}"])
        return _with_clients(again, clients, secrets_of=settings.clients)[0]

    gc.freeze()  # what was imported lives as long as we: to walk all of it held up the loop for 16 ms at a time
    try:
        code = run_process(settings, sockets, held, reload)
    except CannotStart as error:
        _fail(error.exit_code, str(error))
    # The report is on disk and the log is flushed. To take the interpreter apart would cost another 0.3 s on a busy
    # machine, of the second that a forced stop has, and could wait for what is not ours.
    os._exit(code)


@hookd.command()
@click.argument("file")
@click.option("--dev", is_flag=True, help="Judge it as `hookd run --dev` would.")
def check(file: str, dev: bool) -> None:
    """Load and validate a configuration without binding; say what it can cost."""
    from hookd.core.settings import Settings, horizon_seconds, who_gets_in, worst_case_bytes
    from hookd.core.units import approximate_size, format_duration

    loaded = _load(file, {}, dev=dev)
    settings: Settings = loaded.settings
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    parts = worst_case_bytes(settings)
    click.echo(f"{file}: valid")
    for line in who_gets_in(settings):
        click.echo(line)
    click.echo(f"worst-case memory: {approximate_size(sum(parts.values()))}")
    for name, size in sorted(parts.items(), key=lambda part: -part[1]):
        click.echo(f"  {approximate_size(size):>10}  {name}")

    _say_recorder(settings)
    click.echo(f"a restart {'takes back what was left undelivered' if settings.recovery.enabled else 'starts empty'}")

    def horizon(name: str, schedule_seconds: tuple[float, ...]) -> None:
        earliest, latest = horizon_seconds(schedule_seconds, settings.retry.jitter)
        click.echo(
            f"  {name}: {1 + len(schedule_seconds)} attempts over {format_duration(round(earliest))} to "
            f"{format_duration(round(latest))}, and up to one timeout for each"
        )

    click.echo("attempts and horizon:")
    horizon("default", settings.retry.schedule_seconds)
    for client in settings.clients:
        for endpoint in client.endpoints:
            own = endpoint.schedule_seconds
            horizon(f"{client.id}/{endpoint.id}", settings.retry.schedule_seconds if own is None else own)


def _say_recorder(settings: Any) -> None:
    """How many events fit: a full recorder refuses them, whatever the budget says."""
    from hookd.core.settings import recorder_layout
    from hookd.core.units import approximate_size
    from hookd.edge.recorder_files import CannotRecord, free_bytes, place

    recorder, plan = settings.recorder, recorder_layout(settings)
    if not recorder.directory:
        click.echo("flight recorder: off; a kill leaves no list of what was lost")
        return
    reports = settings.drain.report_directory
    try:
        where = place(recorder.directory, report_directory=reports, environ=os.environ, dev=settings.dev)
    except CannotRecord as error:
        click.echo(f"flight recorder: {error}")
        return
    free = free_bytes(where.directory)
    bytes_max = recorder.bytes_max if free is None else min(recorder.bytes_max, free)
    payload_bytes, of = (1024, "with payloads of 1 KiB") if recorder.payloads else (0, "without payloads")
    room = "" if free is None else f", where {approximate_size(free)} are free"
    events = plan.events_max(bytes_max, payload_bytes=payload_bytes)
    click.echo(f"flight recorder: about {events:,} unsettled events of one delivery, {of}")
    click.echo(f"  {approximate_size(recorder.bytes_max)} at most, in {where}{room}")


@hookd.command()
@click.option("--seconds", type=click.IntRange(1, 3600), default=None, help="How long to run.")
@click.option("--plain", is_flag=True, help="Without colours.")
@click.option(
    "--act", type=click.Choice(["slow", "down", "flaky", "restart", "kill"]), help="Show one failure mode only."
)
def demo(seconds: int | None, plain: bool, act: str | None) -> None:
    """See it at work: the real daemon, receivers on this machine, and each failure mode."""
    from hookd.demo import run_demo

    sys.exit(run_demo(seconds=seconds, plain=plain, act=act))


@hookd.command()
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@url_option
@token_option
@json_option
def status(watch: bool, url: str | None, token_file: str | None, as_json: bool) -> None:
    """The totals, and the clients that need someone first."""
    from hookd.cli.commands import status as overview

    with _asking():
        remote = Remote.named(url, token_file, timeout_seconds=STATUS_SECONDS_MAX)
        (overview.watch if watch else overview.show)(remote, as_json=as_json)


@hookd.command()
@click.argument("name", metavar="CLIENT|EVENT|CLIENT/EVENT")
@url_option
@token_option
@json_option
def explain(name: str, url: str | None, token_file: str | None, as_json: bool) -> None:
    """What a client or an event waits for, since when, until when, and what ends it."""
    from hookd.cli.commands import explain as explaining

    with _asking():
        remote = Remote.named(url, token_file)
        try:
            found = explaining.find(remote, name)
        except explaining.NotFound as error:
            _fail(EXIT_BUG, f"nothing is called {name!r}: {error}")
        click.echo(explaining.as_json(found) if as_json else "\n".join(explaining.explained(found, remote.curl)))


@hookd.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0 picks one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--secret", envvar="HOOKD_SECRET", help="Verify signatures by it (HOOKD_SECRET).")
@click.option("--fail", metavar="CODE", type=click.IntRange(200, 599), help="Answer this in place of 200.")
@click.option("--first", metavar="N", type=click.IntRange(1), help="Fail the first N requests of each webhook-id only.")
@click.option("--delay", metavar="T", default="0s", help='Answer so much later, such as "2s".')
@json_option
def receive(
    port: int, host: str, secret: str | None, fail: int | None, first: int | None, delay: str, as_json: bool
) -> None:
    """A receiver to develop against: prints what comes, verifies it, misbehaves on request.

    \b
    hookd receive --fail 503 --first 2     every event is delivered by its third attempt
    hookd receive --fail 410               the endpoint says that it is gone
    hookd receive --delay 20s              slower than an attempt may take (15s)
    """
    from hookd.cli.commands.receive import BadSecret, CannotListen, Manners
    from hookd.cli.commands.receive import receive as serve
    from hookd.core.units import parse_duration

    if first is not None and fail is None:
        _usage("--first says how often to --fail, which is missing")
    try:
        manners = Manners(fail, first, parse_duration(delay))
    except ValueError as error:
        _usage(f"--delay: {error}")
    try:
        serve(host, port, secret=secret, manners=manners, as_json=as_json)
    except BadSecret as error:
        _usage(f"--secret: {error}")
    except CannotListen as error:
        _fail(EXIT_UNAVAILABLE, f"cannot bind {error}")


@hookd.command()
@click.argument("client")
@click.argument("event_type", metavar="TYPE")
@click.argument("payload", metavar="[JSON or -]", default="{}")
@url_option
@token_option
@json_option
def send(client: str, event_type: str, payload: str, url: str | None, token_file: str | None, as_json: bool) -> None:
    """Post one event and follow it: exit 0 delivered, 3 exhausted."""
    raw = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    body = msgspec.json.encode({"type": event_type, "payload": msgspec.Raw(_checked_json(raw))})
    with _asking():
        remote = Remote.named(url, token_file)
        answer = remote.post(f"/v1/clients/{client}/events", body)
        if answer.status not in (200, 202):
            _refused(answer)
        _follow(remote, answer.body, as_json=as_json)


@hookd.command()
@click.argument("file", required=False)
@click.option("--reports", metavar="DIR", default=None, help="Where to look for the newest.")
@json_option
def report(file: str | None, reports: str | None, as_json: bool) -> None:
    """Show the newest shutdown report, or the one named."""
    path = Path(file) if file else _newest(reports)
    summary, line = _read_summary(path)
    if not file:
        _say_ended_without_report(path, summary)
    if as_json:
        click.echo(line.decode())
    else:
        click.echo(text(summary, path=str(path)), nl=False)
        _say_claimed(path)


@hookd.command()
@click.argument("file")
@click.option("--exhausted", is_flag=True, help="The exhausted deliveries, in place of the undelivered.")
@click.option("--client", "only_client", metavar="ID", help="Of this client only.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent.")
@url_option
@token_option
def resend(
    file: str, exhausted: bool, only_client: str | None, dry_run: bool, url: str | None, token_file: str | None
) -> None:
    """Post a report's undelivered events to a running daemon, under their own ids. Repeatable."""
    from hookd.cli.commands.resend import resend_file

    _read_summary(Path(file))
    _say_claimed(Path(file))
    try:
        counts, claimed = resend_file(
            Path(file),
            Remote.named(url, token_file),
            kind="exhausted" if exhausted else "undelivered",
            only_client=only_client,
            dry_run=dry_run,
        )
    except Unreachable as error:
        _fail(EXIT_UNAVAILABLE, str(error))
    except Refusal as refused:
        _fail(EXIT_BUG, f"refused with {refused}; nothing is lost, run it again")
    for word, count in counts.items():
        click.echo(f"{word}: {count:,}")
    if claimed is not None:
        click.echo(f"claimed: {claimed}", err=True)


@contextmanager
def _asking() -> Iterator[None]:
    """A daemon that does not answer, or answers no, ends the command."""
    try:
        yield
    except Unreachable as error:
        _fail(EXIT_UNAVAILABLE, str(error))
    except Refusal as refused:
        _fail(EXIT_BUG, f"refused with {refused}")


def _load(config: str | None, flags: dict[str, Any], *, dev: bool) -> "Loaded":
    from hookd.config.file import ConfigurationError, load

    try:
        return load(config, environ=os.environ, flags=flags, dev=dev, new_secret=_new_secret, prove=_conflicts)
    except ConfigurationError as error:
        for line in error.lines:
            click.echo(line, err=True)
        sys.exit(EXIT_CONFIG)


def _load_or_raise(config: str | None, flags: dict[str, Any], *, dev: bool, refused: type[Exception]) -> "Loaded":
    from hookd.config.file import ConfigurationError, load

    try:
        return load(config, environ=os.environ, flags=flags, dev=dev, new_secret=_new_secret, prove=_conflicts)
    except ConfigurationError as error:
        raise refused(error.lines) from error


def _conflicts(settings: Any) -> Any:
    """What only this machine can tell of the settings: whether the certificate can be served with."""
    if not settings.http.certificate_file:
        return ()
    from hookd.edge.server.tls import certificate_conflicts

    return certificate_conflicts(settings, time.time())


def _with_clients(
    loaded: "Loaded", given: tuple[str, ...], *, secrets_of: tuple[Client, ...] = ()
) -> tuple[Any, list[tuple[str, str]]]:
    """The settings with the `--client`s, and the secrets made for them."""
    settings = loaded.settings
    rules = ClientRules(settings.egress.allow_http, settings.registry.endpoints_max, settings.registry.headers_max)
    kept = {client.id: {one.id: one.secret for one in client.endpoints} for client in secrets_of}
    clients = {client.id: client for client in settings.clients}
    made = []
    for text_ in given:
        client_id, equals, url = text_.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", client_id):
            _usage(f"--client {text_!r}: write ID=URL, the id of A-Z a-z 0-9 _ -")
        if client_id in clients and client_id not in kept:
            _usage(f"--client {client_id}: the configuration has this client already, or it is given twice")
        try:
            clients[client_id] = client_from(
                {"url": url},
                client_id=client_id,
                rules=rules,
                new_secret=_new_secret,
                secrets=kept.get(client_id, {}),
                managed_by_config=True,
            )
        except InvalidClient as invalid:
            _usage(f"--client {client_id}: " + "; ".join(mistake.detail for mistake in invalid.mistakes))
        made.append((client_id, clients[client_id].endpoints[0].secret))
    return msgspec.structs.replace(settings, clients=tuple(clients.values())), made


def _new_secret() -> str:
    return make_secret(secrets.token_bytes(SECRET_BYTES))


def _checked_json(raw: bytes) -> bytes:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        _usage(f"the payload is not JSON: {error}")
    return raw


def _follow(remote: Remote, event: dict[str, Any], *, as_json: bool) -> NoReturn:
    """Until it is settled; one line for each attempt."""
    shown: set[tuple[str, int]] = set()
    click.echo(f"{event['id']} accepted for {event['client_id']}", err=True)
    while True:
        for delivery in event["deliveries"]:
            for attempt in delivery["attempts"]:
                key = (delivery["endpoint_id"], attempt["number"])
                if attempt["outcome"] is not None and key not in shown:
                    shown.add(key)
                    what = attempt["status_code"] or attempt["error"]
                    click.echo(f"{delivery['endpoint_id']} attempt {attempt['number']}: {what}", err=True)
        if event["settled_at"] is not None:
            break
        time.sleep(FOLLOW_EVERY_SECONDS)
        answer = remote.get(f"/v1/clients/{event['client_id']}/events/{event['id']}")
        if answer.status != 200:
            _refused(answer)
        event = answer.body
    status = "delivered (to nobody)" if event["unrouted"] else event["status"]
    click.echo(msgspec.json.encode(event).decode() if as_json else status)
    sys.exit(0 if event["status"] == "delivered" else EXIT_UNDELIVERED)


def _newest(reports: str | None) -> Path:
    from hookd.edge.reports import ReportDirectory

    state = os.environ.get("STATE_DIRECTORY")
    directory = (
        reports or os.environ.get("HOOKD_DRAIN__REPORT_DIRECTORY") or (f"{state}/reports" if state else "reports")
    )
    newest = ReportDirectory(directory).newest()
    if newest is None:
        _say_ended_without_report(Path(directory) / "none", None)
        _fail(EXIT_BUG, f"no report in {directory}; name one, or its directory with --reports")
    return newest


def _say_ended_without_report(newest: Path, summary: Summary | None) -> None:
    """The newest report is no good news where a later run has none."""
    from hookd.edge.reports import ReportDirectory

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


def _say_claimed(path: Path) -> None:
    """Whoever sends it again by hand should know that it was."""
    from hookd.edge.reports import ReportDirectory

    run_id = ReportDirectory(str(path.parent)).claimed_by(str(path))
    if run_id is not None:
        click.echo(f"hookd: run {run_id} took up what this report lists as undelivered", err=True)


def _read_summary(path: Path) -> tuple[Summary, bytes]:
    try:
        with path.open("rb") as file:
            line = file.readline().rstrip(b"\n")
        return msgspec.json.decode(line, type=Summary), line
    except OSError as error:
        _fail(EXIT_BUG, f"cannot read {path}: {error.strerror}")
    except msgspec.DecodeError as error:
        _fail(EXIT_BUG, f"{path} is no report: {error}")


def _refused(answer: Answer) -> NoReturn:
    _fail(EXIT_BUG, f"refused with {answer.problem}")


def _usage(message: str) -> NoReturn:
    raise click.UsageError(message)


def _fail(code: int, message: str) -> NoReturn:
    say(STDERR, f"hookd: {message}\n")
    sys.exit(code)
