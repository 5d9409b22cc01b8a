"""What Redis does for two relays at once: each step is done once, by whoever owns the entry, and is told else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hookd.relay.log_troubles import LogAway
from hookd.relay.parking import DELIVERED, Ending, Row, State
from hookd.relay.redis_log import Names, Passed, RedisLog, open_log

from tests.relay.harness import GROUP, STREAM, RedisServer, needs_redis

pytestmark = needs_redis


@asynccontextmanager
async def two_relays(folder: Path) -> AsyncIterator[tuple[RedisServer, RedisLog, RedisLog]]:
    with RedisServer(folder) as redis:
        names = [Names(STREAM, GROUP, f"relay:{name}") for name in "ab"]
        async with open_log(redis.url, names[0]) as first, open_log(redis.url, names[1]) as second:
            await first.make_group()
            await second.make_group()
            yield redis, first, second


def rows_of(entry_ids: list[str], ending: Ending = DELIVERED) -> list[Row]:
    return [Row(entry_id, "acme", f"e{n}", State.SETTLED, ending=ending) for n, entry_id in enumerate(entry_ids)]


async def idle_for(log: RedisLog, member: str, seconds: float) -> None:
    """As Redis measures it."""
    while [one for one in (await log.survey()).members if one.name == member and one.idle_seconds < seconds]:
        pass


async def test_entry_is_acknowledged_once_and_has_one_line(tmp_path: Path) -> None:
    """Whoever comes second hears that nothing was left to do."""
    async with two_relays(tmp_path) as (redis, first, second):
        redis.add("acme", ["e0", "e1"])
        ids = [entry.id for entry in (await first.read(10, 10_000)).entries]
        rows = rows_of(ids, Ending("exhausted", "gone"))
        assert await first.settle(rows, {}) == (2, set(), "")
        assert await second.settle(rows, {}) == (0, set(), "")
        assert [line["id"] for line in redis.lines("exhausted")] == ["e0", "e1"]


async def test_living_relay_is_not_taken_over(tmp_path: Path) -> None:
    """It was seen a moment ago, in the same step that would claim."""
    async with two_relays(tmp_path) as (redis, first, second):
        redis.add("acme", ["e0"])
        await first.read(10, 10_000)
        await first.survey()
        assert (await second.take_over("relay:a", idle_seconds=60, count=10)).entries == []
        assert len(await first.own_ids()) == 1


async def test_taken_over_entry_is_nobody_elses(tmp_path: Path) -> None:
    """The first can neither hand it back nor read it again, and sees that it is not its own. Its cursors have gone."""
    async with two_relays(tmp_path) as (redis, first, second):
        redis.add("acme", ["e0", "e1"])
        ids = [entry.id for entry in (await first.read(10, 10_000)).entries]
        await first.settle([], {"cursor relay:a http://feed": "here"})
        await idle_for(second, "relay:a", 0.005)
        taken = await second.take_over("relay:a", idle_seconds=0.005, count=10)
        assert [entry.id for entry in taken.entries] == ids
        assert [(entry.client_id, entry.event_id) for entry in taken.entries] == [("acme", "e0"), ("acme", "e1")]
        assert taken.cursors == {"http://feed": "here"}
        assert await second.kept("cursor relay:b http://feed") == "here"
        assert await first.own_ids() == []
        rows = rows_of(ids)
        assert await first.park("acme", rows) == (set(), 0)
        read, lost = await first.fetch(rows)
        assert (read.entries, lost) == ([], set(ids))


async def test_taking_over_leaves_what_stands_between(tmp_path: Path) -> None:
    """Entries of a living relay, and parked ones, lie between those of a dead one; a trimmed one is told."""
    async with two_relays(tmp_path) as (redis, first, second):
        for n in range(6):
            redis.add("acme", [f"e{n}"])
            await (first if n % 2 == 0 else second).read(1, 10_000)
        ids = await first.own_ids()
        mine = await second.own_ids()
        await second.park("acme", rows_of(mine[:1]))
        redis.ask("XDEL", STREAM, ids[1])
        await idle_for(second, "relay:a", 0.005)
        taken = await second.take_over("relay:a", idle_seconds=0.005, count=10)
        assert [entry.id for entry in taken.entries] == [ids[0], ids[2]]
        assert taken.trimmed == 1
        assert sorted(await second.own_ids()) == sorted([ids[0], ids[2], *mine[1:]])
        assert redis.pending() == 5


async def test_parked_entries_come_back_in_order_and_remember_whether_they_were_posted(tmp_path: Path) -> None:
    """Any relay may claim them, some at a time."""
    async with two_relays(tmp_path) as (redis, first, second):
        redis.add("acme", [f"e{n}" for n in range(5)])
        rows = rows_of([entry.id for entry in (await first.read(10, 10_000)).entries])
        rows[1].is_again = True
        assert await first.park("acme", rows[::-1]) == ({row.entry_id for row in rows}, 5)
        some = await second.take_back("acme", 3, 10_000)
        assert [entry.event_id for entry in some.entries] == ["e0", "e1", "e2"]
        assert some.again == {rows[1].entry_id}
        assert some.beyond == 2
        rest = await first.take_back("acme", 3, 10_000)
        assert [entry.event_id for entry in rest.entries] == ["e3", "e4"]
        assert [member.name for member in (await first.survey()).members] == ["relay:a", "relay:b"]


async def test_entries_of_a_stuck_client_pass_by(tmp_path: Path) -> None:
    """However many stand before another one's: a read goes through 500 of them, and brings none out of Redis."""
    async with two_relays(tmp_path) as (redis, first, second):
        redis.add("dead", [f"d{n}" for n in range(1200)])
        redis.add("acme", ["e0"])
        reads = [await first.read(100, 10**6, ["dead", "another"]) for _ in range(3)]
        assert [entry.event_id for read in reads for entry in read.entries] == ["e0"]
        assert [one for read in reads for one in read.passed] == [
            Passed("dead", 500, 500),
            Passed("dead", 500, 1000),
            Passed("dead", 200, 1200),
        ]
        assert [read.is_dry for read in reads] == [False, False, True]
        assert [member.pending for member in (await first.survey()).members] == [1200, 1]
        some = await second.take_back("dead", 3, 10_000)
        assert [entry.event_id for entry in some.entries] == ["d0", "d1", "d2"]
        assert not some.again, "they were never posted"


async def test_entry_that_may_have_been_read_before_does_not_pass_by(tmp_path: Path) -> None:
    """Its group may be a new one: what is no newer than the newest that was ever read comes out, to be looked up."""
    async with two_relays(tmp_path) as (redis, first, _):
        for entry_id in ("9-9", "10-0", "10-9", "10-10", "10-11", "11-0"):
            redis.ask("XADD", STREAM, entry_id, "client", "dead", "type", "t", "id", f"e{entry_id}", "payload", "1")
        read = await first.read(100, 10**6, ["dead"], "10-10")
        assert [entry.id for entry in read.entries] == ["9-9", "10-0", "10-9", "10-10"]
        assert read.passed == [Passed("dead", 2, 2)]
        assert (read.last_id, read.is_dry) == ("11-0", True)


async def test_read_stops_at_its_bytes(tmp_path: Path) -> None:
    """It overshoots by less than it reads in one step; an entry that is too large leaves its payload in Redis."""
    async with two_relays(tmp_path) as (redis, first, _):
        redis.add("acme", [f"e{n}" for n in range(20)], '"%s"' % ("x" * 10_000))
        read = await first.read(20, 30_000)
        assert 3 <= len(read.entries) <= 8
        redis.add("acme", ["huge"], '"%s"' % ("x" * (17 * 2**20)))
        read = await first.read(50, 10**9)
        [huge] = read.unpostable
        assert (huge.event_id, huge.problem) == ("huge", "too-large")


async def test_repetition_is_counted_before_it_is_posted(tmp_path: Path) -> None:
    """Once for each entry, in Redis."""
    async with two_relays(tmp_path) as (redis, first, _):
        redis.add("acme", ["e0", "e1", "e2"])
        rows = rows_of([entry.id for entry in (await first.read(10, 10_000)).entries])
        rows[0].is_again = rows[1].is_again = rows[1].is_counted = True
        read, _ = await first.fetch(rows)
        assert len(read.entries) == 3
        assert redis.posted_again() == 1


async def test_stopped_relay_leaves_everything_at_once(tmp_path: Path) -> None:
    """However much it is; and its cursors with it."""
    async with two_relays(tmp_path) as (redis, first, second):
        redis.add("acme", [f"e{n}" for n in range(1500)])
        for _ in range(3):
            await first.read(500, 10**7)
        await first.settle([], {"cursor relay:a http://feed": "here"})
        await first.release()
        taken = await second.take_over("released", idle_seconds=3600, count=1000)
        assert len(taken.entries) == 1000
        taken = await second.take_over("released", idle_seconds=3600, count=1000)
        assert len(taken.entries) == 500
        assert taken.cursors == {"http://feed": "here"}
        assert [member.name for member in (await second.survey()).members] == ["relay:b"]


async def test_bug_of_ours_is_none_of_redis(tmp_path: Path) -> None:
    """Before anything is asked, and while it is. As `LogAway` it would be tried again for ever."""
    async with two_relays(tmp_path) as (redis, first, _):
        redis.add("acme", ["e0"])
        [row] = rows_of([entry.id for entry in (await first.read(10, 10_000)).entries])
        bug: Any = None
        with pytest.raises(AttributeError):
            await first.settle([bug], {})
        row.entry_id = bug
        with pytest.raises(TypeError):
            await first.settle([row], {})
        with pytest.raises(UnicodeEncodeError):
            await first.settle([], {"cursor": "\ud800"})
        assert len(await first.own_ids()) == 1


@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
@pytest.mark.usefixtures("library_leaves_streams")
async def test_log_that_has_ended_is_away(tmp_path: Path) -> None:
    """Whoever still has it, as a post that reads its events again has: the library's own error would end the relay."""
    async with two_relays(tmp_path) as (redis, first, _):
        redis.add("acme", ["e0"])
        ids = [entry.id for entry in (await first.read(10, 10_000)).entries]
        async with open_log(redis.url, first.names) as log:
            assert (await log.fetch(rows_of(ids)))[0].entries
        with pytest.raises(LogAway):
            await log.fetch(rows_of(ids))
