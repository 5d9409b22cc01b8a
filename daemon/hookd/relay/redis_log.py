"""Owns every word that the relay says to Redis, by coredis: the one place that knows that library.

Rules: a command is answered within a bound, or the connection is given up; whoever asked hears `LogAway`, and knows
nothing of what Redis did. A stream or a group that is not there is `GroupGone`. Only what the library raises is
translated so, and what is wrong with an answer (answers.py): what we raise before or after is a bug, and stays one.
Redis 7 or newer, one primary: the keys are several, and a cluster would want them in one slot.
Does not: decide (owed.py), or begin again (log_connection.py).
"""

import hashlib
import logging
import math
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar
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
from hookd.relay.answers import (
    FetchAnswer,
    Found,
    NamedEntry,
    ParkAnswer,
    ReadAnswer,
    SettleAnswer,
    SurveyAnswer,
    TakeBackAnswer,
    TakeOverAnswer,
    entry_id,
    named,
    of_form,
    pairs,
    text,
)
from hookd.relay.entry import ENTRY_BYTES_MAX, TOO_LARGE, Entry, Unpostable, position_of, read_entry
from hookd.relay.log_troubles import GroupGone, LogAway, LogRefused
from hookd.relay.parking import Row

T = TypeVar("T")

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


@asynccontextmanager
async def _translated(seconds: float = math.inf) -> AsyncIterator[None]:
    """Round what the library does, and nothing of ours: whatever comes out of it says that Redis is away."""
    try:
        with trio.fail_after(seconds):
            yield
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

    async def read(self, count: int, bytes_max: int, passing: Sequence[str] = (), newest: str = "0-0") -> Read:
        """New entries. Those of clients that are `passing` stay in Redis, under their names, if newer than `newest`.

        Raises GroupGone.
        """
        bytes_max = min(bytes_max, READ_BYTES_MAX)
        arguments: list[str | int] = [count, bytes_max, ENTRY_BYTES_MAX, LOOKED_AT_MAX, newest, *passing]
        answer = await self._run(ReadAnswer, scripts.READ, *arguments)
        by_client = [Passed(text(one.client_id), one.entries, one.beyond) for one in answer.passed]
        return _read(answer.found)._replace(
            last_id=entry_id(answer.last_id), is_dry=bool(answer.is_dry), passed=by_client
        )

    async def wait(self, last_id: str, seconds: float) -> None:
        """Until there is an entry after this one, or so long."""
        async with _translated(seconds + COMMAND_SECONDS_MAX):
            streams = {self.names.stream: last_id}
            await self._waiting_client.xread(streams=streams, count=1, block=int(seconds * 1000))

    async def survey(self) -> Survey:
        """Says that the relay is alive, and reads how all stands."""
        answer = await self._run(SurveyAnswer, scripts.SURVEY)
        members = [Member(text(one.name), one.pending, one.idle_milliseconds / 1000) for one in answer.members]
        return Survey(answer.lag, answer.pending, members)

    async def settle(self, rows: Sequence[Row], kept: Mapping[str, str]) -> tuple[int, set[str], str]:
        """How many were acknowledged, which entries could not be, and why. `kept` goes into the relays' hash."""
        delivered = [row.entry_id for row in rows if row.ending is None or row.ending.kind == "delivered"]
        others = [(row, row.ending) for row in rows if row.ending is not None and row.ending.kind != "delivered"]
        arguments: list[str | int] = [len(delivered), *delivered, len(others)]
        for row, ending in others:
            arguments += [row.entry_id, ending.kind, row.client_id, row.event_id, ending.why, cut(ending.detail)]
        for name, value in kept.items():
            arguments += [name, value]
        answer = await self._run(SettleAnswer, scripts.SETTLE, *arguments)
        return answer.done, {entry_id(one) for one in answer.failed}, text(answer.problem)

    async def park(self, client_id: str, rows: Sequence[Row]) -> tuple[set[str], int]:
        """Hands them back; which of them went, and how many of that client's are there now."""
        arguments: list[str | int] = []
        for row in rows:
            arguments += [row.entry_id, 2 if row.is_again else 1]
        answer = await self._run(ParkAnswer, scripts.PARK, client_id, *arguments)
        return {entry_id(one) for one in answer.gone}, answer.beyond

    async def take_back(self, client_id: str, count: int, bytes_max: int) -> Read:
        bytes_max = min(bytes_max, READ_BYTES_MAX)
        answer = await self._run(TakeBackAnswer, scripts.TAKE_BACK, client_id, count, bytes_max, ENTRY_BYTES_MAX)
        again = frozenset(entry_id(one.entry_id) for one in answer.found if one.deliveries > 1)
        return _read(answer.found)._replace(again=again, trimmed=len(answer.trimmed), beyond=answer.beyond)

    async def take_over(self, member: str, *, idle_seconds: float, count: int) -> TakenOver:
        """Some of what a relay has left behind, if it is gone; its cursors with them."""
        arguments = member, int(idle_seconds * 1000), min(count, IDS_MAX)
        answer = await self._run(TakeOverAnswer, scripts.TAKE_OVER, *arguments)
        entries = [named(one) for one in answer.named]
        return TakenOver(entries, len(answer.trimmed), pairs(answer.cursors), answer.found)

    async def own_ids(self) -> list[str]:
        """Every entry that is pending under the relay's name."""
        ids: list[str] = []
        start = "-"
        while True:
            page = [entry_id(one) for one in await self._run(list[bytes], scripts.OWN_IDS, start, IDS_MAX)]
            ids += page
            if len(page) < IDS_MAX:
                return ids
            start = f"({ids[-1]}"

    async def own(self, entry_ids: Sequence[str]) -> list[Entry]:
        """Those of at most 1,000 that are still the relay's own."""
        return [named(one) for one in await self._run(list[NamedEntry], scripts.OWN, *entry_ids)]

    async def fetch(self, rows: Sequence[Row]) -> tuple[Read, set[str]]:
        """Their events, as far as they fit, and those that are not the relay's any more. A repetition is counted."""
        arguments: list[str | int] = []
        for row in rows:
            arguments += [row.entry_id, int(row.is_again and not row.is_counted)]
        answer = await self._run(FetchAnswer, scripts.FETCH, READ_BYTES_MAX, ENTRY_BYTES_MAX, *arguments)
        lost = {entry_id(one) for one in answer.lost}
        if not {entry_id(one.entry_id) for one in answer.found} | lost <= {row.entry_id for row in rows}:
            raise LogAway("the answer is that of another command")
        return _read(answer.found), lost

    async def release(self) -> None:
        """Leaves what is pending to the other relays."""
        while await self._run(int, scripts.RELEASE) == IDS_MAX:
            pass

    async def kept_position(self, name: str) -> tuple[int, int]:
        """Of an entry's id that is kept there, to be compared."""
        kept = await self.kept(name)
        return position_of(entry_id(kept.encode())) if kept else (0, 0)

    async def kept(self, name: str) -> str:
        """What the relays' hash has under this name, or nothing."""
        async with _translated(COMMAND_SECONDS_MAX):
            found = await self._client.hget(self.names.keys[3], name)
        return "" if found is None else text(of_form(found, bytes))

    async def _run(self, form: type[T], script: str, *arguments: str | int) -> T:
        # Here, and not in the library: what is no text and no number is a bug of ours.
        given = [one.encode() if isinstance(one, str) else b"%d" % one for one in (*self._own, *arguments)]
        digest, keys = _digest(script), self.names.keys
        async with _translated(COMMAND_SECONDS_MAX):
            try:
                answer = await self._client.evalsha(digest, keys, given)
            except NoScriptError:
                answer = await self._client.eval(script, keys, given)
        return of_form(answer, form)


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


def _read(found: Sequence[Found]) -> Read:
    entries: list[Entry] = []
    unpostable: list[Unpostable] = []
    for one in found:
        name = entry_id(one.entry_id)
        if not one.size:
            unpostable.append(Unpostable(name, TRIMMED, TRIMMED_DETAIL))
        elif one.size > ENTRY_BYTES_MAX:
            detail = f"the entry has {one.size:,} bytes; at most {ENTRY_BYTES_MAX:,} are read"
            unpostable.append(Unpostable(name, TOO_LARGE, detail, text(one.client_id), text(one.event_id)))
        else:
            values = one.client_id, one.type, one.event_id, one.payload, one.expires_at
            entry = read_entry(name, dict(zip(_NAMES, values, strict=True)))
            if isinstance(entry, Entry):
                entries.append(entry)
            else:
                unpostable.append(entry)
    return Read(entries, unpostable)
