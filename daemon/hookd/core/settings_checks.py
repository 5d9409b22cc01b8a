"""Owns what is wrong between settings: conflicts, which forbid a start, and warnings, which do not.

core/settings has the legal range of each key by itself. Whether a folder can be written or an address bound is not
known here: whoever does it finds out.
"""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from hookd.core.bind import parse_bind
from hookd.core.budget import client_share
from hookd.core.client import tls_identities
from hookd.core.ids import is_id
from hookd.core.quoting import quoted
from hookd.core.settings import IntakeSettings, Settings
from hookd.core.shard import is_shard_name
from hookd.core.sizing import horizon_seconds, recorder_layout
from hookd.core.units import format_duration, format_size


class Conflict(NamedTuple):
    """A mistake that shows only between keys, or inside a text; the first key is the one to name."""

    keys: tuple[str, ...]
    detail: str


def conflicts(settings: Settings) -> Iterator[Conflict]:
    intake, http = settings.intake, settings.http
    if intake.payload_bytes_max > intake.body_bytes_max:
        detail = f"{format_size(intake.payload_bytes_max)} does not fit into intake.body_bytes_max"
        detail += f" ({format_size(intake.body_bytes_max)})"
        yield Conflict(("intake.payload_bytes_max", "intake.body_bytes_max"), detail)
    if bool(http.certificate_file) != bool(http.key_file):
        keys = ("http.certificate_file", "http.key_file")
        yield Conflict(
            keys if http.certificate_file else keys[::-1], "TLS needs both http.certificate_file and http.key_file"
        )
    yield from _egress_conflicts(settings)
    if settings.operations.client and not is_id(settings.operations.client):
        yield Conflict(("operations.client",), f"{quoted(settings.operations.client)} is not a client's id")
    if not settings.drain.report_directory:
        yield Conflict(("drain.report_directory",), "must name a folder; the report is the only copy of what was left")
    if settings.shard.name and not is_shard_name(settings.shard.name):
        yield Conflict(("shard.name",), f"{settings.shard.name!r} is not 1 to 16 of a-z 0-9")
    plan = recorder_layout(settings)
    if settings.recorder.directory and settings.recorder.bytes_max < plan.bytes_max_least:
        detail = (
            f"{format_size(settings.recorder.bytes_max)} is too little for events of up to {plan.row_bytes:,} bytes"
        )
        yield Conflict(("recorder.bytes_max",), f"{detail}; at least {format_size(plan.bytes_max_least)}")
    for text in http.bind:
        try:
            bind = parse_bind(text)
        except ValueError as error:
            yield Conflict(("http.bind",), str(error))
            continue
        if not bind.is_loopback and not http.tokens:
            detail = f"{text} can be reached from other machines and no [[http.tokens]] are configured"
            yield Conflict(("http.bind", "http.tokens"), f"{detail}; bind to 127.0.0.1, or add tokens")


def _egress_conflicts(settings: Settings) -> Iterator[Conflict]:
    egress = settings.egress
    for network in egress.allow_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield Conflict(("egress.allow_networks",), f'{error}; write a network such as "10.1.0.0/16"')
    if bool(egress.client_certificate_file) != bool(egress.client_key_file):
        keys = ("egress.client_certificate_file", "egress.client_key_file")
        detail = "a client certificate needs both egress.client_certificate_file and egress.client_key_file"
        yield Conflict(keys if egress.client_certificate_file else keys[::-1], detail)
    if egress.proxy_credentials_file and not egress.proxy:
        yield Conflict(("egress.proxy_credentials_file", "egress.proxy"), "there is no egress.proxy to show them to")
    found = len(set(tls_identities(settings.clients)))
    if found > egress.tls_contexts_max:
        detail = (
            f"{egress.tls_contexts_max}, and [[clients]] have {found} different sets of authorities and certificates"
        )
        yield Conflict(("egress.tls_contexts_max",), detail)


def who_gets_in(settings: Settings) -> list[str]:
    """For people: which addresses take which tokens, one line each."""
    http = settings.http
    lines = [f"access: tokens {', '.join(f'{token.name} ({token.scope})' for token in http.tokens)}"]
    if not http.tokens:
        lines = ["access: no tokens, so only programs on this machine, and no web page"]
    for text in http.bind:
        if parse_bind(text).descriptor is not None:
            lines.append(f"  {text} is judged by its address once it is inherited")
        elif not http.certificate_file and not parse_bind(text).is_loopback:
            lines.append(f"  {text} is plain http: tokens and payloads cross the network as clear text")
    return lines


def warnings(settings: Settings) -> list[str]:
    """Legal, and probably not meant; one line each, key first."""
    found = [
        *_schedule_warnings("retry.schedule", settings.retry.schedule_seconds, settings),
        *_timeout_warnings("delivery.timeout", settings.delivery.timeout_seconds, settings),
        *_intake_warnings(settings.intake),
        *_recorder_warnings(settings),
        *_recovery_warnings(settings),
        *_operations_warnings(settings),
    ]
    for client in settings.clients:
        for endpoint in client.endpoints:
            at = f"clients {client.id} endpoint {endpoint.id}"
            if endpoint.schedule_seconds is not None:
                found += _schedule_warnings(f"{at}: schedule", endpoint.schedule_seconds, settings)
            if endpoint.timeout_seconds is not None:
                found += _timeout_warnings(f"{at}: timeout", endpoint.timeout_seconds, settings)
    return found


def _operations_warnings(settings: Settings) -> Iterator[str]:
    client_id = settings.operations.client
    if client_id and client_id not in {client.id for client in settings.clients}:
        at = f"operations.client: {client_id} is none of [[clients]]"
        yield f"{at}; until it is registered through the API, notices are in the feed alone"


def _recovery_warnings(settings: Settings) -> Iterator[str]:
    if not settings.recovery.enabled:
        return
    if not settings.drain.report_payloads:
        yield "recovery.enabled: drain.report_payloads is false, so there is nothing to take back after a stop"
    if not settings.recorder.directory:
        yield "recovery.enabled: the recorder is off, so there is nothing to take back after a kill"
    elif not settings.recorder.payloads:
        yield "recovery.enabled: recorder.payloads is false, so there is nothing to take back after a kill"


def _schedule_warnings(at: str, schedule_seconds: tuple[float, ...], settings: Settings) -> Iterator[str]:
    attempts_max = 1 + len(schedule_seconds)
    if attempts_max < 3:
        noun = "attempt" if attempts_max == 1 else "attempts"
        yield f"{at}: only {attempts_max} {noun} in all; an endpoint that restarts may miss every one"
    latest = horizon_seconds(schedule_seconds, settings.retry.jitter)[1]
    age_seconds_max = settings.retry.age_seconds_max
    if latest > age_seconds_max:
        shown = f"the last attempt may be due after {format_duration(latest)}"
        yield f"{at}: {shown}, but retry.age_max gives up after {format_duration(age_seconds_max)}"


def _timeout_warnings(at: str, timeout_seconds: float, settings: Settings) -> Iterator[str]:
    drain_seconds = settings.drain.timeout_seconds
    if drain_seconds < timeout_seconds:
        shown = f"drain.timeout ({format_duration(drain_seconds)}) is shorter than {format_duration(timeout_seconds)}"
        yield f"{at}: {shown}; a stop may cut attempts that would still have been answered"


def _intake_warnings(intake: IntakeSettings) -> Iterator[str]:
    if intake.client_events_max > intake.unsettled_events_max:
        yield "intake.client_events_max: more than intake.unsettled_events_max; one client can fill the whole budget"
    if intake.client_bytes_max > intake.unsettled_bytes_max:
        yield "intake.client_bytes_max: more than intake.unsettled_bytes_max; one client can fill the whole budget"
    if intake.payload_bytes_max > min(intake.client_bytes_max, intake.unsettled_bytes_max):
        yield "intake.payload_bytes_max: more than a client's or the whole budget; such an event is never admitted"
    if intake.body_bytes_max > intake.receiving_bytes_max:
        yield "intake.body_bytes_max: more than intake.receiving_bytes_max; such a body is never taken"


def _recorder_warnings(settings: Settings) -> Iterator[str]:
    """Of its room for all, and for one client. Payloads are as long as they are; `hookd check` says what fits then."""
    recorder, intake = settings.recorder, settings.intake
    if not recorder.directory or recorder.payloads:
        return
    at = f"recorder.bytes_max: {format_size(recorder.bytes_max)} has room for about"
    fit = recorder_layout(settings).events_max(recorder.bytes_max, payload_bytes=0)
    if fit < intake.unsettled_events_max:
        least = f"intake.unsettled_events_max ({intake.unsettled_events_max:,})"
        yield f"{at} {fit:,} unsettled events, fewer than {least}; intake answers 503 then"
    share = client_share(intake)
    if share < 1 and int(fit * share) < intake.client_events_max:
        least = f"intake.client_events_max ({intake.client_events_max:,})"
        yield f"{at} {int(fit * share):,} events of one client, fewer than {least}; that client gets 429 then"
