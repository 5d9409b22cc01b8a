"""The notices feed's ring."""

import tracemalloc

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.notice import ERROR_CHARACTERS_MAX, Kind, Notice, payload_of
from hookd.core.notices import LOOKED_AT_AT_ONCE, NOTICE_BYTES, Notices
from hookd.core.retry import Reason
from hookd.core.settings import RetentionSettings, Settings


def ring(notices_max: int) -> Notices:
    return Notices(EffectiveSettings(Settings(retention=RetentionSettings(notices_max=notices_max))))


def notice(number: int, client_id: str = "acme") -> Notice:
    return Notice(id=f"ntc_{number}", type=Kind.FAILING, at="2026-01-01T00:00:00.000Z", client_id=client_id, counts={})


def ids(rows: list[Notice]) -> list[int]:
    return [int(row.id.removeprefix("ntc_")) for row in rows]


def test_pages_follow_one_another_to_the_end() -> None:
    """Each row once, in order."""
    notices = ring(100)
    for number in range(25):
        notices.append(notice(number))
    position, found = None, []
    while (page := notices.page(position, limit=10)).rows:
        position, found = page.next_position, found + page.rows
        assert not page.has_gap
    assert ids(found) == list(range(25))
    assert position == notices.end == 25


def test_ring_forgets_the_oldest_and_says_so() -> None:
    """A reader that is behind is told of a gap, and begins at the oldest held."""
    notices = ring(5)
    for number in range(12):
        notices.append(notice(number))
    page = notices.page(3, limit=100)
    assert (ids(page.rows), page.has_gap, notices.oldest) == ([7, 8, 9, 10, 11], True, 7)
    assert not notices.page(7, limit=1).has_gap
    assert not notices.page(None, limit=1).has_gap


def test_smaller_ring_after_a_reload_drops_the_rest() -> None:
    """It is hidden at once."""
    effective = EffectiveSettings(Settings(retention=RetentionSettings(notices_max=10)))
    notices = Notices(effective)
    for number in range(10):
        notices.append(notice(number))
    effective.settings = Settings(retention=RetentionSettings(notices_max=2))
    assert ids(notices.page(None, limit=10).rows) == [8, 9]
    notices.trim()
    assert notices.page(0, limit=10).has_gap


def test_notice_that_could_not_be_taken_is_a_gap() -> None:
    """For whoever read up to it, too."""
    notices = ring(10)
    notices.append(notice(0))
    notices.lose()
    notices.append(notice(2))
    page = notices.page(1, limit=10)
    assert (ids(page.rows), page.has_gap, page.next_position) == ([2], True, 3)


def test_clients_are_picked_out_and_a_page_looks_at_so_many() -> None:
    """The rest of it is the next page's."""
    notices = ring(10_000)
    for number in range(LOOKED_AT_AT_ONCE + 10):
        notices.append(notice(number, "acme" if number in (5, LOOKED_AT_AT_ONCE + 3) else "beta"))
    first = notices.page(None, limit=10, clients={"acme"})
    assert (ids(first.rows), first.next_position) == ([5], LOOKED_AT_AT_ONCE)
    second = notices.page(first.next_position, limit=10, clients={"acme"})
    assert (ids(second.rows), second.next_position) == ([LOOKED_AT_AT_ONCE + 3], notices.end)


def test_notice_takes_no_more_than_is_said() -> None:
    """With every text at its longest."""
    notices = ring(1000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1000):
        notices.append(longest(number))
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken < 1000 * NOTICE_BYTES
    assert len(payload_of(longest(0))) < 1500


def longest(number: int) -> Notice:
    return Notice(
        id=f"ntc_{'r' * 12}_{number:09d}",
        type=Kind.EXHAUSTED,
        at=f"2026-01-01T00:00:00.{number:03d}Z",
        client_id=f"{number:064d}",
        endpoint_id=f"{number:064d}",
        state="throttled",
        since=f"2026-01-01T00:00:01.{number:03d}Z",
        error=f"{number:0{ERROR_CHARACTERS_MAX}d}",
        counts={"exhausted": 10_000 + number},
        reasons={reason.value: 10_000 + number for reason in Reason},
        first_event_id=f"{number:064d}",
        last_event_id=f"{number + 1:064d}",
    )
