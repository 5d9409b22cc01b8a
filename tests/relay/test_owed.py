"""The relay's table, whatever comes in whatever order: no row is lost, none is settled by nobody, counts add up."""

from collections import Counter

from hookd.core.short_batch import BODY_BYTES as SHORT_BODY_BYTES
from hookd.relay.entry import Entry, Unpostable
from hookd.relay.lanes import HELD_ROW_BYTES, TAKE_BACKS_MAX, Limits
from hookd.relay.owed import BEHIND_MAX, READY_MAX, SHORT_POST_MIN, OwedTable
from hookd.relay.parking import BATCH_MAX, DELIVERED, PAUSE_SECONDS_MAX, PROBE_MAX, Ending, Lane, Reason, Row, State
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

PARKED_MAX = 20
HELD_BYTES_MAX = 60 * HELD_ROW_BYTES
clients = st.sampled_from(["a", "b", "c"])


def entry(number: int, client_id: str, event_id: str | None = None, size: int = 2) -> Entry:
    return Entry(f"{number}-0", client_id, event_id or f"e{number}", b"x" * size)


class TableMachine(RuleBasedStateMachine):
    """The world is played: Redis keeps what left, daemons say anything, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = OwedTable(Limits(PARKED_MAX, 10_000, HELD_BYTES_MAX))
        self.now = 0.0
        self.number = 0
        self.on_the_way: list[tuple[Lane, list[Row], int]] = []
        self.in_redis: dict[str, list[tuple[Entry, bool]]] = {}
        self.owed: set[str] = set()  # by the model: what the relay has to have
        self.said: set[str] = set()  # what someone said is settled

    # --- what happens ---

    @rule(client_id=clients, count=st.integers(1, 40), size=st.sampled_from([2, 3000]))
    def entries_come(self, client_id: str, count: int, size: int) -> None:
        entries = [entry(self.number + n, client_id, size=size) for n in range(count)]
        self.number += count
        self.owed |= {one.id for one in entries}
        self.table.add(entries)
        self.table.add(entries[:1])  # one that is there already changes nothing

    @rule(client_id=clients, count=st.integers(1, 10))
    def entries_are_taken_over(self, client_id: str, count: int) -> None:
        entries = [Entry(f"{self.number + n}-0", client_id, f"e{self.number + n}") for n in range(count)]
        self.number += count
        self.owed |= {one.id for one in entries}
        self.table.add(entries, is_doubtful=True)

    @rule(client_id=clients)
    def entry_can_never_be_posted(self, client_id: str) -> None:
        self.table.refuse([Unpostable(f"{self.number}-0", "invalid-event", "", client_id)])
        self.owed.add(f"{self.number}-0")
        self.said.add(f"{self.number}-0")
        self.number += 1

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.table.lanes.mark_slow(self.now)

    @rule()
    def lane_posts(self) -> None:
        batch = self.table.next_batch(self.now)
        if batch is not None:
            lane, rows = batch
            assert 0 < len(rows) <= BATCH_MAX
            assert all(row.state is State.POSTING for row in rows)
            assert [row.client_id for row in rows] == [lane.client_id] * len(rows)
            assert lane.client_id not in [other.client_id for other, _, _ in self.on_the_way], (
                "two requests of one lane"
            )
            self.on_the_way.append((lane, rows, self.table.gap_count))

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def answer_comes(self, data: st.DataObject) -> None:
        lane, rows, gap_count = self.on_the_way.pop(data.draw(st.integers(0, len(self.on_the_way) - 1)))
        reason = data.draw(st.sampled_from([None, *Reason]))
        words = data.draw(st.lists(st.sampled_from(["taken", "settled", "refused", "unanswered", "later"]), min_size=1))
        for number, row in enumerate(rows):
            match words[number % len(words)]:
                case "taken":
                    self.table.posted(row, gap_count)
                case "settled" | "refused" as word:
                    if self.table.rows.get(row.entry_id) is row:
                        self.said.add(row.entry_id)
                    self.table.settle(row, DELIVERED if word == "settled" else Ending("refused", "id-conflict"))
                case "unanswered":
                    self.table.unanswered([row])
        if reason is not None or "later" in words[: len(rows)]:
            self.table.lanes.park(
                lane, reason or Reason.FULL, self.now, data.draw(st.sampled_from([None, 1.0, 1000.0]))
            )
        self.table.put_back(rows)
        self.table.lanes.finish(lane, is_taken=lane.parked_at < lane.posting_since or lane.reason is None)

    @rule(data=st.data())
    def feed_says_settled(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, max(self.number, 1)))
        row = self.table.rows.get(f"{number}-0")
        client_id = row.client_id if row is not None else "a"
        if row is not None and row.state in (State.POSTED, State.DOUBTFUL, State.POSTING):
            self.said.add(row.entry_id)
        self.table.settle_event(client_id, f"e{number}", DELIVERED, self.now)

    @rule()
    def feed_has_a_gap(self) -> None:
        self.table.gap()
        assert not [row for row in self.table.rows.values() if row.state is State.POSTED]

    @rule(known=st.booleans(), count=st.integers(1, 30), gap_meanwhile=st.booleans())
    def look_up_answers(self, known: bool, count: int, gap_meanwhile: bool) -> None:
        rows, gap_count = self.table.some_doubtful(count), self.table.gap_count
        if gap_meanwhile:
            self.table.gap()
        if known:
            for row in rows:
                self.table.known(row, gap_count)
        else:
            self.table.unknown(rows, gap_count)
        assert not gap_meanwhile or all(row.state is State.DOUBTFUL for row in rows)

    @rule(count=st.integers(1, 30))
    def redis_takes_what_leaves(self, count: int) -> None:
        some = self.table.some_leaving(count)
        if some is not None:
            client_id, rows = some
            kept = self.in_redis.setdefault(client_id, [])
            kept += [(Entry(row.entry_id, row.client_id, row.event_id, b"xx"), row.is_again) for row in rows]
            kept.sort(key=lambda one: int(one[0].id.partition("-")[0]))
            self.owed -= {row.entry_id for row in rows}
            self.table.left(client_id, rows, len(kept))

    @rule()
    def what_has_room_is_taken_back(self) -> None:
        for client_id, count in self.table.take_back_wanted(self.now):
            kept = self.in_redis[client_id]
            taken, self.in_redis[client_id] = kept[:count], kept[count:]
            self.owed |= {one.id for one, _ in taken}
            self.table.took_back(client_id, taken, len(self.in_redis[client_id]))

    @rule(count=st.integers(1, 30))
    def redis_acknowledges(self, count: int) -> None:
        rows = [self.table.settled.popleft() for _ in range(min(count, len(self.table.settled)))]
        assert all(row.ending is not None for row in rows)
        assert {row.entry_id for row in rows} <= self.said, "settled, and nobody said so"
        self.table.acknowledged(rows)
        self.owed -= {row.entry_id for row in rows}

    @rule(data=st.data())
    def another_relay_took_over_some(self, data: st.DataObject) -> None:
        kept = {entry_id for entry_id in self.table.rows if data.draw(st.booleans())}
        for row in self.table.keep_only(kept):
            self.owed.discard(row.entry_id)

    @precondition(lambda self: self.number > 100)
    @rule()
    def group_is_gone(self) -> None:
        self.table.clear()
        assert not self.table.rows
        self.owed.clear()
        self.in_redis.clear()

    # --- what holds always ---

    @invariant()
    def no_row_is_lost_and_each_stands_where_its_state_says(self) -> None:
        table = self.table
        assert set(table.rows) == self.owed
        places: Counter[tuple[str, State]] = Counter()
        for lane in table.lanes.of_client.values():
            places.update((row.entry_id, State.WAITING) for row in lane.waiting)
        for rows in table.lanes.leaving.values():
            places.update((row.entry_id, State.LEAVING) for row in rows)
        places.update((row.entry_id, State.DOUBTFUL) for row in table.doubtful.values())
        places.update((row.entry_id, State.SETTLED) for row in table.settled)
        for _, rows, _ in self.on_the_way:
            there = [row for row in rows if table.rows.get(row.entry_id) is row]
            places.update((row.entry_id, State.POSTING) for row in there if row.state is State.POSTING)
        places.update((row.entry_id, State.POSTED) for row in table.rows.values() if row.state is State.POSTED)
        assert places == Counter((row.entry_id, row.state) for row in table.rows.values())

    @invariant()
    def counts_add_up(self) -> None:
        lanes = self.table.lanes
        held = [row for row in self.table.rows.values() if row.state in (State.WAITING, State.POSTING)]
        assert lanes.held_count == len(held)
        assert lanes.held_bytes == sum(HELD_ROW_BYTES + len(row.item or b"") for row in held)
        stuck = [lane for lane in lanes.of_client.values() if lane.is_stuck]
        assert lanes.stuck_count == sum(lane.held_count for lane in stuck)
        assert lanes.stuck_bytes == sum(lane.held_bytes for lane in stuck)
        behind = [lane for lane in lanes.of_client.values() if lane.beyond and not lane.is_stuck]
        assert lanes.behind_count == sum(lane.held_count for lane in behind)
        by_state = Counter(row.state for row in self.table.rows.values())
        assert self.table.by_state() == {state: by_state[state] for state in State}
        of_client = Counter(row.client_id for row in self.table.rows.values())
        assert of_client == Counter({lane.client_id: lane.row_count for lane in lanes.of_client.values()})

    @invariant()
    def stuck_lane_holds_no_more_than_its_share(self) -> None:
        """But for what is on its way: that cannot leave."""
        for lane in self.table.lanes.of_client.values():
            assert not lane.is_stuck or not lane.waiting or lane.held_count <= PARKED_MAX
        waiting = [lane for lane in self.table.lanes.of_client.values() if lane.is_stuck and lane.waiting]
        # A lane that sheds stops at half; others have shed before it.
        assert not waiting or self.table.lanes.stuck_bytes <= HELD_BYTES_MAX // 2 + BATCH_MAX * 3 * 4096

    @invariant()
    def what_waits_has_a_next_time(self) -> None:
        """No lane is forgotten: at the latest after the longest pause it posts."""
        lanes = self.table.lanes
        for lane in lanes.of_client.values():
            if lane.waiting and not lane.is_posting and not lane.is_ready:
                due = lanes.next_due()
                assert lane.wake_at is not None
                assert due is not None
                assert due <= lane.wake_at <= self.now + PAUSE_SECONDS_MAX


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def table(**limits: int) -> OwedTable:
    return OwedTable(Limits(**limits))


def posted_batch(owed: OwedTable, now: float) -> tuple[Lane, list[Row]]:
    batch = owed.next_batch(now)
    assert batch is not None
    return batch


def test_stuck_client_does_not_keep_others_from_being_read() -> None:
    """What it holds does not count against what may be read, and what is over its share leaves."""
    owed = table(parked_max=10)
    owed.add([entry(number, "full") for number in range(READY_MAX)])
    assert owed.read_room()[0] == 0
    lane, rows = posted_batch(owed, 0.0)
    owed.lanes.park(lane, Reason.FULL, 0.0, None)
    owed.put_back(rows)
    owed.lanes.finish(lane, is_taken=False)
    assert owed.read_room()[0] == READY_MAX
    assert len(lane.waiting) == 10
    assert [row.entry_id for row in lane.waiting] == [f"{number}-0" for number in range(10)], "the oldest stay"
    assert len(owed.lanes.leaving["full"]) == READY_MAX - 10


def test_post_ends_where_the_daemon_would_not_read_it_in_one_pass() -> None:
    """If it has enough events by then. Else it goes on: a request costs more than a longer way to read it."""
    for size, wanted in ((100, BATCH_MAX), (400, 163), (654, SHORT_POST_MIN), (700, BATCH_MAX), (20_000, 50)):
        owed = table()
        owed.add([entry(number, "acme", size=size) for number in range(2 * BATCH_MAX)])
        _, rows = posted_batch(owed, 0.0)
        assert len(rows) == wanted, size
        body = b"[%b]" % b",".join([row.item or b"" for row in rows])
        assert (len(body) <= SHORT_BODY_BYTES) == (size < 700)


def test_nothing_is_taken_back_while_its_client_has_no_room() -> None:
    """The same entries are not claimed over and over: only as a lane's few are used up, and its pause has passed."""
    owed = table(parked_max=10)
    owed.add([entry(number, "full") for number in range(100)])
    lane, rows = posted_batch(owed, 0.0)
    owed.lanes.park(lane, Reason.FULL, 0.0, 5.0)
    owed.put_back(rows)
    owed.lanes.finish(lane, is_taken=False)
    client_id, leaving = owed.some_leaving(500) or ("", [])
    owed.left(client_id, leaving, len(leaving))
    for second in range(100):
        assert owed.take_back_wanted(second * 1.0) == []
        if (batch := owed.next_batch(second * 1.0)) is not None:
            assert len(batch[1]) <= PROBE_MAX
            owed.lanes.park(lane, Reason.FULL, second * 1.0, None)
            owed.put_back(batch[1])
            owed.lanes.finish(lane, is_taken=False)


def test_clients_that_move_again_leave_others_their_turn() -> None:
    """However many they are, and however much they have: a few claims in one go, and not all the room in any number."""
    owed = table()
    names = [f"back{number}" for number in range(20)]
    for name in names:
        owed.lanes.set_beyond(name, 1000)
    claimed: Counter[str] = Counter()
    for _ in range(20):
        wanted = owed.take_back_wanted(0.0)
        assert len(wanted) <= TAKE_BACKS_MAX
        for client_id, count in wanted:
            number = sum(claimed.values())
            taken = [(entry(number + n, client_id), False) for n in range(count)]
            owed.took_back(client_id, taken, 1000 - count)
            claimed[client_id] += count
    assert sum(claimed.values()) == owed.lanes.behind_count == BEHIND_MAX
    assert owed.read_room()[0] == READY_MAX
    owed.add([entry(10_000, "healthy")])
    lanes_before: list[str] = []
    while (batch := posted_batch(owed, 0.0))[0].client_id != "healthy":
        lanes_before += [batch[0].client_id]
    assert sorted(lanes_before) == sorted(claimed), "each has one turn before it at most"
    for client_id in lanes_before:  # as these are posted, the others have theirs
        lane = owed.lanes.lane(client_id)
        for row in list(owed.rows.values()):
            if row.client_id == client_id and row.state is State.POSTING:
                owed.posted(row, owed.gap_count)
        owed.lanes.finish(lane, is_taken=True)
    assert not {client_id for client_id, _ in owed.take_back_wanted(0.0)} & set(claimed)


def test_what_is_claimed_again_leaves_bytes_for_what_is_new() -> None:
    """A quarter of all that may be held."""
    owed = table(held_bytes_max=40 * HELD_ROW_BYTES)
    owed.lanes.set_beyond("back", 1000)
    owed.took_back("back", [(entry(number, "back", size=0), False) for number in range(30)], 970)
    assert owed.take_back_wanted(0.0) == []
    assert owed.read_room()[1] == 10 * HELD_ROW_BYTES


def test_client_may_not_fill_the_table_for_others() -> None:
    """Of rows that are owed a client may have as many as are still free."""
    owed = table(owed_max=10_000)
    now = 0.0
    for number in range(10_000):
        owed.add([entry(number, "dead")])
        while (batch := owed.next_batch(now)) is not None:
            for row in batch[1]:
                owed.posted(row, owed.gap_count)
            owed.lanes.finish(batch[0], is_taken=True)
        if (some := owed.some_leaving(500)) is not None:
            owed.left(*some, owed.lanes.lane("dead").beyond + len(some[1]))
    assert owed.lanes.lane("dead").reason is Reason.SHARE
    states = Counter(row.state for row in owed.rows.values())
    assert 4_500 <= states[State.POSTED] <= 5_000
    assert owed.read_room()[0] > 0
    owed.settle_event("dead", "e0", DELIVERED, now)
    assert owed.lanes.lane("dead").parked_until <= now + 1.0


def test_two_entries_of_one_event_each_wait_for_their_answer() -> None:
    """The second may have another payload, and is then refused: a feed's word for the first does not settle it."""
    owed = table()
    owed.add([entry(1, "a", "same"), entry(2, "a", "same")])
    lane, rows = posted_batch(owed, 0.0)
    owed.settle_event("a", "same", DELIVERED, 0.0)
    assert [row.state for row in rows] == [State.POSTING] * 2
    owed.settle(rows[0], DELIVERED)
    owed.settle(rows[1], Ending("refused", "id-conflict"))
    owed.lanes.finish(lane, is_taken=True)
    assert [row.ending.kind for row in owed.settled if row.ending] == ["delivered", "refused"]


def test_answer_from_before_a_gap_is_in_doubt() -> None:
    """The daemon that took it may be another one by now."""
    owed = table()
    owed.add([entry(1, "a")])
    lane, rows = posted_batch(owed, 0.0)
    before = owed.gap_count
    owed.gap()
    owed.posted(rows[0], before)
    owed.lanes.finish(lane, is_taken=True)
    assert rows[0].state is State.DOUBTFUL
    owed.unknown(owed.some_doubtful(10), owed.gap_count)
    assert rows[0].state is State.WAITING
    assert rows[0].is_again
    assert rows[0].item is None
