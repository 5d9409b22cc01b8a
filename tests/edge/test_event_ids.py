"""Ids of events that come without one."""

from random import Random

from hookd.core.ids import is_id
from hookd.edge.event_ids import AT_ONCE, EventIds


def test_ids_differ_and_are_ids() -> None:
    """Across what is drawn at once, and between two daemons."""
    one, other = EventIds(), EventIds()
    made = [ids.new() for ids in (one, other) for _ in range(3 * AT_ONCE)]
    assert len(set(made)) == len(made)
    assert all(is_id(each) and len(each) == 28 and each.startswith("evt_") for each in made)


def test_every_random_byte_is_used_once() -> None:
    """The system is asked once for many ids, and no byte of its answer is in two of them."""
    asked: list[bytes] = []
    draw = Random(1)

    def random_bytes(count: int) -> bytes:
        asked.append(draw.randbytes(count))
        return asked[-1]

    ids = EventIds(random_bytes)
    made = [ids.new() for _ in range(2 * AT_ONCE)]
    assert len(asked) == 2
    digits = [b"".join(asked).hex()[at : at + 24] for at in range(0, 2 * AT_ONCE * 24, 24)]
    assert sorted(made) == sorted(f"evt_{each}" for each in digits)
