"""Loads the configuration for `hookd run` and `hookd check`, and adds the clients that `--client` names.

A mistake is either printed, which ends the command, or raised, which a reload needs.
"""

import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click
import msgspec

from hookd.cli.failures import usage
from hookd.config.file import ConfigurationError, UnreadableConfiguration
from hookd.core.client import Client
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.printable import printable
from hookd.core.signature import SECRET_BYTES, make_secret
from hookd.process.exit_codes import ExitCode

if TYPE_CHECKING:
    from hookd.config.load import Loaded
    from hookd.core.endpoint_egress import EndpointEgress
    from hookd.core.mistakes import Mistake
    from hookd.core.settings import Settings
    from hookd.core.settings_checks import Conflict


def load_or_exit(config: str | None, flags: Mapping[str, object], *, dev: bool) -> "Loaded":
    """Prints every mistake and ends the command where there is one."""
    try:
        return load_configuration(config, flags, dev=dev)
    except ConfigurationError as error:
        for line in error.lines:
            click.echo(printable(line), err=True)
        sys.exit(ExitCode.NO_INPUT if isinstance(error, UnreadableConfiguration) else ExitCode.CONFIG)


def load_configuration(config: str | None, flags: Mapping[str, object], *, dev: bool) -> "Loaded":
    """Raises ConfigurationError."""
    from hookd.config.load import load
    from hookd.edge.systemd import handed_over

    return load(
        config,
        environ=os.environ,
        flags=flags,
        dev=dev,
        new_secret=_new_secret,
        prove=_conflicts,
        prove_tls=_tls_mistakes,
        handed_over=handed_over(os.environ),
    )


def _conflicts(settings: "Settings") -> "Iterable[Conflict]":
    """What only this machine can tell of the settings: whether the certificate can be used."""
    if not settings.http.certificate_file:
        return ()
    from hookd.edge.server.tls import certificate_conflicts

    return certificate_conflicts(settings, time.time())


def _tls_mistakes(egress: "EndpointEgress") -> "Iterable[Mistake]":
    """The same of certificates of the way out. httpx is imported only where there is one."""
    if egress.tls is None:
        return ()
    from hookd.edge.egress.tls_identity import tls_mistakes

    return tls_mistakes(egress, wall=time.time)


def with_clients(
    loaded: "Loaded", given: tuple[str, ...], *, secrets_of: tuple[Client, ...] = ()
) -> tuple["Settings", list[tuple[str, str]]]:
    """The settings with the `--client`s, and the secrets made for them. Raises click.UsageError."""
    settings = loaded.settings
    rules = ClientRules.of(settings)
    kept = {client.id: {one.id: one.secret for one in client.endpoints} for client in secrets_of}
    clients = {client.id: client for client in settings.clients}
    made = []
    for option in given:
        client_id, equals, url = option.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", client_id):
            usage(f"--client {option!r}: write ID=URL, the id of A-Z a-z 0-9 _ -")
        if client_id in clients:
            usage(f"--client {client_id}: the configuration has this client already, or it is given twice")
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
            usage(f"--client {client_id}: " + "; ".join(mistake.detail for mistake in invalid.mistakes))
        made.append((client_id, clients[client_id].endpoints[0].secret))
    return msgspec.structs.replace(settings, clients=tuple(clients.values())), made


def _new_secret() -> str:
    return make_secret(secrets.token_bytes(SECRET_BYTES))
