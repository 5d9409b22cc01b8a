"""Owns what `hookd status` says of several daemons: a row for each, their totals, and clients that are not the same
wherever they are registered.

A client may be on one daemon or on several: that is the platform's choice. On several it should be the same. Secrets
are not compared: the API does not show them.

Limits: of each daemon's clients an id and DIGEST_BYTES are held; of those that differ DIFFERING_SHOWN are read again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hookd.cli.api_client import Remote, Unreachable, part
from hookd.cli.endpoint_rows import Found, Row, clients, first_rows, rows_of, shown_age, table
from hookd.cli.terminal import clip, span
from hookd.core.printable import printable
from hookd.core.units import approximate_size

DIFFERING_SHOWN = 20
DIGEST_BYTES = 16
# Of an endpoint's view: what it is now, not how it was defined.
NOT_DEFINED = ("health", "client_certificate_expires_at", "secret")
_COLUMNS = "{:<22} {:<9} {:>7} {:>10} {:>8} {:>8} {:>10} {:>8} {:>9}"  # 99
_HEADS = ("daemon", "state", "up", "accepted", "pending", "failed", "delivered", "oldest", "memory")


class Member(NamedTuple):
    """One daemon, as it answered; `problem` says why it did not."""

    url: str
    status: dict[str, Any] | None
    problem: str
    found: Found
    definitions: dict[str, bytes]  # client -> a digest

    @property
    def name(self) -> str:
        shard = "" if self.status is None else self.status.get("shard", "")
        return shard or self.url.partition("://")[2]


class Differing(NamedTuple):
    """A client whose registrations differ, where, and in what."""

    client_id: str
    daemons: list[str]
    fields: list[str]


class Fleet(NamedTuple):
    members: list[Member]
    differing: list[Differing]  # the first of them
    differing_count: int

    @property
    def answering(self) -> list[Member]:
        return [one for one in self.members if one.status is not None]

    @property
    def found(self) -> Found:
        """The first endpoints of all daemons."""
        of = [one.found for one in self.members]
        rows = first_rows(row for one in of for row in one.rows).rows
        return Found(rows, sum(one.endpoints for one in of), sum(one.needy for one in of))

    @property
    def silent(self) -> list[Member]:
        return [one for one in self.members if one.status is None]


def read_fleet(remotes: Sequence[Remote]) -> Fleet:
    """One after the other. Raises Refusal, or Unreachable where none answers."""
    members = [_member(remote) for remote in remotes]
    if all(one.status is None for one in members):
        raise Unreachable("; ".join(one.problem for one in members))
    ids = _differing_ids(members)
    by_url = {remote.url: remote for remote in remotes}
    shown = [_differing(client_id, members, by_url) for client_id in ids[:DIFFERING_SHOWN]]
    return Fleet(members, shown, len(ids))


def fleet_screen(fleet: Fleet) -> list[str]:
    """At most 100 columns."""
    lines = [f"hookd: {len(fleet.members)} daemons, {len(fleet.answering)} answer", _COLUMNS.format(*_HEADS)]
    lines += [_line(one) for one in fleet.members]
    lines += ["", *_totals(fleet), *_registered(fleet), *unclaimed_lines(one.status for one in fleet.answering)]
    return [clip(printable(line)) for line in lines + table(fleet.found)]


def unclaimed_lines(statuses: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """Of all of them in one line; none where everything was taken up."""
    count = sum((status or {}).get("unclaimed_reports", 0) for status in statuses)
    lists = "report lists" if count == 1 else "reports list"
    return [f"unclaimed    {count:,} {lists} undelivered deliveries; hookd report shows them"] if count else []


def fleet_json(fleet: Fleet) -> dict[str, Any]:
    sums: dict[str, Any] = {what: _sums(fleet, what) for what in ("events", "deliveries", "memory")}
    return {
        "daemons": [
            {"url": one.url, "daemon": one.name, "problem": one.problem or None, "status": one.status}
            for one in fleet.members
        ],
        "totals": {**sums, "clients": len(_daemons_of(fleet.members))},
        "differing": [one._asdict() for one in fleet.differing],
        "differing_count": fleet.differing_count,
        "needs_attention": fleet.found.to_json(),
    }


def _member(remote: Remote) -> Member:
    """Raises Refusal."""
    definitions: dict[str, bytes] = {}
    try:
        status = remote.get("/v1/status").taken("run_id", "events", "deliveries", "memory", "endpoints")
        name = status.get("shard") or remote.url.partition("://")[2]
        found = first_rows(row._replace(at=name) for row in _rows(remote, definitions))
    except Unreachable as error:
        return Member(remote.url, None, str(error), Found([], 0, 0), {})
    return Member(remote.url, status, "", found, definitions)


def _rows(remote: Remote, definitions: dict[str, bytes]) -> Iterator[Row]:
    """Notes on its way how each client is defined."""
    for client in clients(remote):
        text = msgspec.json.encode(_definition(client), order="deterministic")
        definitions[client["id"]] = hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()
        yield from rows_of(client)


def _definition(client: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Endpoint -> its fields, without what it is just now."""
    return {
        endpoint["id"]: {name: value for name, value in endpoint.items() if name not in NOT_DEFINED}
        for endpoint in client["endpoints"]
    }


def _daemons_of(members: Sequence[Member]) -> Counter[str]:
    """Of each client: on how many daemons it is."""
    return Counter(client_id for one in members for client_id in one.definitions)


def _differing_ids(members: Sequence[Member]) -> list[str]:
    first: dict[str, bytes] = {}
    return sorted(
        {
            client_id
            for one in members
            for client_id, digest in one.definitions.items()
            if first.setdefault(client_id, digest) != digest
        }
    )


def _differing(client_id: str, members: Sequence[Member], remotes: Mapping[str, Remote]) -> Differing:
    """Asked again, for what differs. Raises Refusal or Unreachable."""
    having = [one for one in members if client_id in one.definitions]
    found = [remotes[one.url].get(f"/v1/clients/{part(client_id)}").taken("endpoints") for one in having]
    definitions = [_definition(one) for one in found]
    fields = set()
    for other in definitions[1:]:
        if other.keys() != definitions[0].keys():
            fields.add("endpoints")
        for endpoint_id in other.keys() & definitions[0].keys():
            mine, its = definitions[0][endpoint_id], other[endpoint_id]
            fields |= {name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name)}
    return Differing(client_id, [one.name for one in having], sorted(fields))


def _line(one: Member) -> str:
    if one.status is None:
        return f"{clip(one.name, 22):<22} {'silent':<9} {one.problem}"
    status, events = one.status, one.status["events"]
    return _COLUMNS.format(
        clip(one.name, 22),
        status["state"],
        span(status["uptime_seconds"]),
        *(f"{events[name]:,}" for name in ("accepted", "pending", "failed", "delivered")),
        shown_age(status["oldest_unsettled_seconds"]),
        approximate_size(status["memory"]["unsettled_bytes"]),
    )


def _sums(fleet: Fleet, what: str) -> dict[str, int]:
    """Of those that answer."""
    sums: Counter[str] = Counter()
    for one in fleet.answering:
        assert one.status is not None
        sums.update(one.status[what])
    return dict(sums)


def _totals(fleet: Fleet) -> list[str]:
    events, memory = _sums(fleet, "events"), _sums(fleet, "memory")
    by_status = " + ".join(f"{events[name]:,} {name}" for name in ("pending", "failed", "delivered", "exhausted"))
    used = f"{approximate_size(memory['unsettled_bytes'])} of {approximate_size(memory['unsettled_bytes_max'])}"
    held = f"{memory['unsettled_events']:,} of {memory['unsettled_events_max']:,} events"
    return [f"events       {events['accepted']:,} accepted = {by_status}", f"memory       {used}, {held}"]


def _registered(fleet: Fleet) -> list[str]:
    counts = _daemons_of(fleet.members)
    several = sum(count > 1 for count in counts.values())
    lines = [f"clients      {len(counts):,}, of which {several:,} are on several daemons"]
    if fleet.differing_count:
        lines.append(f"DIFFERENT    {fleet.differing_count:,} clients; PUT them again at each of their daemons:")
        for one in fleet.differing:
            lines.append(f"             {one.client_id} on {', '.join(one.daemons)}: {', '.join(one.fields)}")
        if hidden := fleet.differing_count - len(fleet.differing):
            lines.append(f"             and {hidden:,} more")
    names = Counter(one.name for one in fleet.members)
    twice = [name for name, count in names.items() if count > 1]
    return lines + [f"NAME         several daemons are called {name}: see [shard] name" for name in twice]
