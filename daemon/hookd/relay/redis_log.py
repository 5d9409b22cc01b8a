"""Owns every word that the relay says to Redis, by coredis: the one place that knows that library.

Rules: a command is answered within a bound, or the connection is given up; whoever asked hears `LogAway`, and knows
nothing of what Redis did. A stream or a group that is not there is `GroupGone`. Redis 7 or newer, one primary: the keys
are several, and a cluster would want them in one slot.
Does not: decide (owed.py), or begin again (log_connection.py).
"""

import hashlib
import logging
import math
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import coredis
import trio
from coredis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisError,
    ResponseError,
    StreamConsumerGroupError,
    StreamDuplicateConsumerGroupError,
)
from coredis.retry import NoRetryPolicy

from hookd.core.quoting import cut
from hookd.relay import scripts
from hookd.relay.entry import ENTRY_BYTES_MAX, TOO_LARGE, Entry, Unpostable, position_of, read_entry
from hookd.relay.parking import Row

COMMAND_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 5.0
READ_BYTES_MAX = 4 * 2**20
IDS_MAX = 1000
LOOKED_AT_MAX = 500  # entries that one read goes through, those that pass by with them: some milliseconds
_NAMES = ("client", "type", "id", "payload", "expires_at")
NO_KEY = "no such key"  # as XINFO says of a stream
TRIMMED = "trimmed"
TRIMMED_DETAIL = "the entry was trimmed from the stream before its event was settled"

# What it writes with a traceback at each failed connection is raised as well.
logging.getLogger("coredis").setLevel(logging.CRITICAL)


class LogAway(Exception):
    """Redis does not answer, or refuses; the message says what it said. What was asked may be done or not."""


class LogRefused(Exception):
    """Redis refuses our name or password."""


class GroupGone(Exception):
    """The stream, or its group, is not there."""


@asynccontextmanager
async def _translated(seconds: float = math.inf) -> AsyncIterator[None]:
    """Whatever comes out of the library, or of an answer that is not of the form which was asked for."""
    try:
        with trio.fail_after(seconds):
            yield
    except (LogAway, LogRefused, GroupGone):
        raise
    except AuthenticationError as error:
        raise LogRefused(str(error)) from error
    except (trio.TooSlowError, TimeoutError) as error:
        raise LogAway(f"no answer within {seconds:g} s") from error
    except StreamConsumerGroupError as error:
        raise GroupGone(str(error)) from error
    except ResponseError as error:
        if NO_KEY in str(error):
            raise GroupGone(str(error)) from error
        raise LogAway(str(error)) from error
    except (RedisError, OSError) as error:
        raise LogAway(str(error) or type(error).__name__) from error
    except Exception as error:
        # Its streams' (anyio's), its parser's (ValueError, UnicodeError, IndexError …), or its pool's, which raises
        # RuntimeError where it has just ended.
        raise LogAway(f"the connection cannot be used: {type(error).__name__}: {error}") from error


class Names(NamedTuple):
    """Where things are in Redis."""

    stream: str
    group: str
    member: str  # this relay, in the group

    @property
    def keys(self) -> list[str]:
        return [self.stream, f"{self.stream}:exhausted", f"{self.stream}:refused", f"{self.stream}:relay:{self.group}"]


class Member(NamedTuple):
    """One of those that have entries of the group."""

    name: str
    pending: int
    idle_seconds: float


class Survey(NamedTuple):
    lag: int | None  # entries that nobody has read; None: Redis does not know
    pending: int
    members: list[Member]


class Passed(NamedTuple):
    """Entries of one client that went to its own name as they were read."""

    client_id: str
    entries: int
    beyond: int  # that are there now


class Read(NamedTuple):
    """What came out of the stream."""

    entries: list[Entry]
    unpostable: list[Unpostable]
    last_id: str = ""  # the last that was read; the group's, where there was none
    is_dry: bool = False  # there was no more
    passed: Sequence[Passed] = ()
    again: frozenset[str] = frozenset()  # entries that may have been posted before
    trimmed: int = 0
    beyond: int = 0


class TakenOver(NamedTuple):
    entries: list[Entry]
    trimmed: int
    cursors: dict[str, str]
    found: int  # pending ones that were looked at


def checked_url(url: str) -> str:
    """Raises ValueError unless it is one of Redis, and what it asks for can be had: a file, a number."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.path.strip("/")):
        raise ValueError("write redis://HOST:PORT/DB, rediss://… or unix:///PATH")
    parts.port  # noqa: B018 - raises where it is no number
    try:
        _client(url, 1)
    except Exception as error:  # the library's own, Python's of a value, the system's of a file
        raise ValueError(f"cannot be used: {error}") from error
    return url


def checked_name(name: str) -> str:
    """Of a stream or a group. Raises ValueError where it is no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    return name


class RedisLog:
    """One connected lifetime. Made by `open_log`."""

    def __init__(self, client: Any, waiting_client: Any, names: Names) -> None:
        self._client = client
        self._waiting_client = waiting_client
        self.names = names
        self._own = (names.group, names.member)

    async def make_group(self) -> None:
        """From the stream's beginning on. It may be there."""
        async with _translated(COMMAND_SECONDS_MAX):
            try:
                await self._client.xgroup_create(self.names.stream, self.names.group, "0", mkstream=True)
            except StreamDuplicateConsumerGroupError:
                pass  # another relay was first

    @_translated()
    async def read(self, count: int, bytes_max: int, passing: Sequence[str] = (), newest: str = "0-0") -> Read:
        """New entries. Those of clients that are `passing` stay in Redis, under their names, if newer than `newest`.

        Raises GroupGone.
        """
        bytes_max = min(bytes_max, READ_BYTES_MAX)
        last_id, is_dry, found, passed = await self._run(
            scripts.READ, count, bytes_max, ENTRY_BYTES_MAX, LOOKED_AT_MAX, newest, *passing
        )
        by_client = [Passed(_text(client_id), size, beyond) for client_id, size, beyond in passed]
        return _read(found)._replace(last_id=_text(last_id), is_dry=bool(is_dry), passed=by_client)

    async def wait(self, last_id: str, seconds: float) -> None:
        """Until there is an entry after this one, or so long."""
        async with _translated(seconds + COMMAND_SECONDS_MAX):
            streams = {self.names.stream: last_id}
            await self._waiting_client.xread(streams=streams, count=1, block=int(seconds * 1000))

    @_translated()
    async def survey(self) -> Survey:
        """Says that the relay is alive, and reads how all stands."""
        lag, pending, members = await self._run(scripts.SURVEY)
        found = [Member(_text(name), count, idle / 1000) for name, count, idle in members]
        return Survey(lag, pending, found)

    @_translated()
    async def settle(self, rows: Sequence[Row], kept: Mapping[str, str]) -> tuple[int, set[str], str]:
        """How many were acknowledged, which entries could not be, and why. `kept` goes into the relays' hash."""
        delivered = [row.entry_id for row in rows if row.ending is None or row.ending.kind == "delivered"]
        others = [(row, row.ending) for row in rows if row.ending is not None and row.ending.kind != "delivered"]
        arguments: list[str | int] = [len(delivered), *delivered, len(others)]
        for row, ending in others:
            arguments += [row.entry_id, ending.kind, row.client_id, row.event_id, ending.why, cut(ending.detail)]
        for name, value in kept.items():
            arguments += [name, value]
        done, failed, problem = await self._run(scripts.SETTLE, *arguments)
        return done, {_text(one) for one in failed}, _text(problem)

    @_translated()
    async def park(self, client_id: str, rows: Sequence[Row]) -> tuple[set[str], int]:
        """Hands them back; which of them went, and how many of that client's are there now."""
        arguments: list[str | int] = []
        for row in rows:
            arguments += [row.entry_id, 2 if row.is_again else 1]
        gone, count = await self._run(scripts.PARK, client_id, *arguments)
        return {_text(one) for one in gone}, count

    @_translated()
    async def take_back(self, client_id: str, count: int, bytes_max: int) -> Read:
        bytes_max = min(bytes_max, READ_BYTES_MAX)
        found, trimmed, beyond = await self._run(scripts.TAKE_BACK, client_id, count, bytes_max, ENTRY_BYTES_MAX)
        again = frozenset(_text(one[0]) for one in found if one[7] > 1)
        return _read(found)._replace(again=again, trimmed=len(trimmed), beyond=beyond)

    @_translated()
    async def take_over(self, member: str, *, idle_seconds: float, count: int) -> TakenOver:
        """Some of what a relay has left behind, if it is gone; its cursors with them."""
        found, trimmed, cursors, taken = await self._run(
            scripts.TAKE_OVER, member, int(idle_seconds * 1000), min(count, IDS_MAX)
        )
        texts = [_text(one) for one in cursors]
        kept = dict(zip(texts[::2], texts[1::2], strict=True))
        return TakenOver([_named(one) for one in found], len(trimmed), kept, taken)

    @_translated()
    async def own_ids(self) -> list[str]:
        """Every entry that is pending under the relay's name."""
        ids: list[str] = []
        start = "-"
        while True:
            page = [_text(one) for one in await self._run(scripts.OWN_IDS, start, IDS_MAX)]
            ids += page
            if len(page) < IDS_MAX:
                return ids
            start = f"({ids[-1]}"

    @_translated()
    async def own(self, entry_ids: Sequence[str]) -> list[Entry]:
        """Those of at most 1,000 that are still the relay's own."""
        return [_named(one) for one in await self._run(scripts.OWN, *entry_ids)]

    @_translated()
    async def fetch(self, rows: Sequence[Row]) -> tuple[Read, set[str]]:
        """Their events, as far as they fit, and those that are not the relay's any more. A repetition is counted."""
        arguments: list[str | int] = []
        for row in rows:
            arguments += [row.entry_id, int(row.is_again and not row.is_counted)]
        found, lost = await self._run(scripts.FETCH, READ_BYTES_MAX, ENTRY_BYTES_MAX, *arguments)
        if not {_text(one[0]) for one in found}.union(map(_text, lost)) <= {row.entry_id for row in rows}:
            raise LogAway("the answer is that of another command")
        return _read(found), {_text(one) for one in lost}

    @_translated()
    async def release(self) -> None:
        """Leaves what is pending to the other relays."""
        while await self._run(scripts.RELEASE) == IDS_MAX:
            pass

    @_translated()
    async def kept_position(self, name: str) -> tuple[int, int]:
        """Of an entry's id that is kept there, to be compared."""
        return position_of(await self.kept(name) or "0-0")

    async def kept(self, name: str) -> str:
        """What the relays' hash has under this name, or nothing."""
        async with _translated(COMMAND_SECONDS_MAX):
            found = await self._client.hget(self.names.keys[3], name)
        return _text(found or b"")

    async def _run(self, script: str, *arguments: str | int) -> Any:
        async with _translated(COMMAND_SECONDS_MAX):
            given = [*self._own, *arguments]
            try:
                return await self._client.evalsha(_digest(script), self.names.keys, given)
            except NoScriptError:
                return await self._client.eval(script, self.names.keys, given)


@asynccontextmanager
async def open_log(url: str, names: Names) -> AsyncIterator[RedisLog]:
    """Connected. Raises LogAway or LogRefused, in a group, as all that is raised inside: the library has a nursery."""
    async with _translated(COMMAND_SECONDS_MAX):
        clients = _client(url, 2), _client(url, 1)
    async with clients[0] as first, clients[1] as second:
        log = RedisLog(first, second, names)
        async with _translated(COMMAND_SECONDS_MAX):
            await first.ping()
        yield log


def _client(url: str, connections_max: int) -> Any:
    """Not connected. Raises anything, where the URL has what the library does not take, or a file that is not there."""
    options: dict[str, Any] = {"stream_timeout": None, "connect_timeout": CONNECT_SECONDS_MAX}
    if urlsplit(url).scheme == "rediss" and "ssl_" not in url:
        options["ssl_context"] = ssl.create_default_context()  # coredis by itself would check no name
    return coredis.Redis.from_url(
        url, decode_components=True, retry_policy=NoRetryPolicy(), max_connections=connections_max, **options
    )


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _named(found: Sequence[Any]) -> Entry:
    """By its names alone; those of an entry that has none are empty, and no daemon knows it."""
    entry_id, client_id, event_id = found
    return Entry(_text(entry_id), _text(client_id or b""), _text(event_id or b""))


def _read(found: Sequence[Any]) -> Read:
    entries: list[Entry] = []
    unpostable: list[Unpostable] = []
    for one in found:
        entry_id, size = _text(one[0]), one[6]
        if not size:
            unpostable.append(Unpostable(entry_id, TRIMMED, TRIMMED_DETAIL))
        elif size > ENTRY_BYTES_MAX:
            detail = f"the entry has {size:,} bytes; at most {ENTRY_BYTES_MAX:,} are read"
            unpostable.append(Unpostable(entry_id, TOO_LARGE, detail, _text(one[1] or b""), _text(one[3] or b"")))
        else:
            entry = read_entry(entry_id, dict(zip(_NAMES, one[1:6], strict=True)))
            if isinstance(entry, Entry):
                entries.append(entry)
            else:
                unpostable.append(entry)
    return Read(entries, unpostable)
