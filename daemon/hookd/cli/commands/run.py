"""Owns `hookd run`: loads the configuration, binds the sockets, and hands both to one run of the process."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from hookd.cli.completion import complete_directory, complete_file
from hookd.cli.configuration import load_configuration, load_or_exit, with_clients
from hookd.cli.failures import fail
from hookd.config.file import ConfigurationError
from hookd.core.client import Client
from hookd.edge.logs import form_on
from hookd.edge.streams import STDERR, say
from hookd.process.exit_codes import ExitCode

if TYPE_CHECKING:
    from hookd.core.settings import Settings


class Options(NamedTuple):
    """What the command line says of the settings."""

    config: str | None
    flags: dict[str, object]
    dev: bool
    clients: tuple[str, ...]


@click.command()
@click.option(
    "--config", metavar="FILE", shell_complete=complete_file, help="A TOML file; config/hookd.toml shows every key."
)
@click.option("--bind", "binds", metavar="HOST:PORT", multiple=True, help="Listen here; port 0 picks one.")
@click.option("--dev", is_flag=True, help="Allow plain http and loopback or private addresses as endpoints.")
@click.option("--client", "clients", metavar="ID=URL", multiple=True, help="Register a client with one endpoint.")
@click.option(
    "--reports", metavar="DIR", shell_complete=complete_directory, help="Where the shutdown report is written."
)
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

    options = Options(config, {"http.bind": binds or None, "drain.report_directory": reports}, dev, clients)
    settings = _settings(options)
    try:
        sockets = bound_sockets(settings.http.bind)
    except CannotBind as error:
        fail(ExitCode.UNAVAILABLE, f"cannot bind {error}")
    open_to_others = ", ".join(exposed(sockets))
    if open_to_others and not settings.http.tokens:
        detail = f"other machines can reach {open_to_others}, and no [[http.tokens]] are configured"
        fail(ExitCode.CONFIG, f"{detail}; bind to 127.0.0.1, or add tokens")
    try:
        code = run_process(settings, sockets, held, _reload(options, settings.clients, open_to_others))
    except CannotStart as error:
        fail(error.exit_code, str(error))
    # The report is on disk and the log is flushed. Taking the interpreter apart would cost another 0.3 s on a busy
    # machine, of the second that a forced stop has, and could wait for what is not ours.
    os._exit(code)


def _settings(options: Options) -> "Settings":
    """Says what the operator should know of them. A mistake ends the command.

    A secret that was made is plain text also between lines of JSON: stderr shows it, and no line of the log holds it.
    """
    form = form_on(STDERR, os.environ)
    loaded = load_or_exit(options.config, options.flags, dev=options.dev)
    settings, made = with_clients(loaded, options.clients)
    for warning in loaded.warnings:
        say(STDERR, form.note(time.time(), warning, "warning"))
    if options.dev:
        message = "--dev: plain http and private addresses are allowed as endpoints"
        say(STDERR, form.note(time.time(), message, "warning"))
    for client_id, secret in made:
        say(STDERR, f"hookd: the secret of client {client_id}, shown this once: {secret}\n")
    return settings


def _reload(options: Options, clients: tuple[Client, ...], open_to_others: str) -> Callable[[], "Settings"]:
    """What SIGHUP reads again, with the same options. `clients` are those of the start: they keep their secrets."""
    from hookd.process.reloading import ReloadRefused

    def reload() -> "Settings":
        try:
            loaded = load_configuration(options.config, options.flags, dev=options.dev)
        except ConfigurationError as error:
            raise ReloadRefused(error.lines) from error
        if open_to_others and not loaded.settings.http.tokens:  # whatever http.bind says now, these sockets stay
            raise ReloadRefused([f"http.tokens: none are left, and other machines can reach {open_to_others}"])
        try:
            return with_clients(loaded, options.clients, secrets_of=clients)[0]
        except click.UsageError as error:  # the file allows no such client any more, or has one of that id
            raise ReloadRefused([error.message]) from error

    return reload
