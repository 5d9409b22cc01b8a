"""The old is walked through after a flood and not within it; and where it may be garbage, however much it is."""

import subprocess
import sys

import pytest
import trio
from hookd.edge.garbage import CALM_MAX, COME_MAX, YOUNG_WALKS, Garbage


class Heap:
    """A collector of so many old objects, and of so many frozen ones; a collection of all leaves some."""

    def __init__(self) -> None:
        self.old = 5000
        self.frozen = 0
        self.alive = 10_000_000  # of the frozen ones
        self.collections = self.whole_collections = 0

    def get_objects(self, generation: int | None = None) -> list[object]:
        assert generation == 2
        return [None] * self.old

    def collect(self, generation: int = 2) -> int:
        assert generation == 2
        self.collections += 1
        if not self.frozen:
            self.whole_collections += 1
            self.old = min(self.old, self.alive)
        return 0

    def freeze(self) -> None:
        self.old, self.frozen = 0, self.frozen + self.old

    def unfreeze(self) -> None:
        self.old, self.frozen = self.old + self.frozen, 0

    def get_freeze_count(self) -> int:
        return self.frozen


async def walked(garbage: Garbage, times: int = YOUNG_WALKS) -> None:
    """The young so often, and the loop waits."""
    for _ in range(times):
        for phase in ("start", "stop"):
            garbage.note(phase, {"generation": 1})
            garbage.note(phase, {"generation": 0})
    trio.lowlevel.add_instrument(garbage)
    await trio.sleep(1)  # virtual
    trio.lowlevel.remove_instrument(garbage)


@pytest.mark.parametrize(
    ("come", "collections"), [(0, 1), (CALM_MAX, 1), (CALM_MAX + 1, 0), (COME_MAX - 1, 0), (COME_MAX, 1)]
)
async def test_collects_while_little_has_come_or_much(autojump_clock, come: int, collections: int) -> None:
    """In between what has come is a flood of connections."""
    heap = Heap()
    garbage = Garbage(heap)
    await walked(garbage)
    assert (heap.collections, heap.old, heap.frozen) == (1, 0, 5000)
    heap.old += come
    await walked(garbage)
    assert heap.collections == 1 + collections
    assert heap.old == (0 if collections else come)


async def test_young_are_walked_through_so_often_first(autojump_clock) -> None:
    """Only those walks count, and each of them once."""
    heap = Heap()
    garbage = Garbage(heap)
    await walked(garbage, YOUNG_WALKS - 1)
    assert heap.collections == 0
    await walked(garbage, 1)
    assert heap.collections == 1
    await walked(garbage, YOUNG_WALKS - 1)
    assert heap.collections == 1


async def test_what_a_walk_leaves_is_walked_through_again_once_it_may_have_become_garbage(autojump_clock) -> None:
    """In a calm moment, when as much was frozen as was alive the last time and a flood more; and then not at once."""
    heap = Heap()
    garbage = Garbage(heap)
    heap.old = COME_MAX
    await walked(garbage)
    heap.alive, before = 60_000, heap.whole_collections
    while heap.whole_collections == before:
        assert heap.frozen <= COME_MAX + CALM_MAX
        heap.old += CALM_MAX
        await walked(garbage)
    assert heap.frozen == 60_000
    for _ in range((60_000 + COME_MAX) // CALM_MAX + 1):
        heap.old += CALM_MAX
        await walked(garbage)
    assert heap.whole_collections == before + 1
    heap.old += CALM_MAX + 1
    await walked(garbage)
    assert heap.whole_collections == before + 1
    heap.old = CALM_MAX
    await walked(garbage)
    assert (heap.whole_collections, heap.frozen) == (before + 2, 60_000)


async def test_what_was_frozen_and_went_is_not_taken_for_garbage(autojump_clock) -> None:
    """Requests that were under way at a walk go by themselves."""
    heap = Heap()
    garbage = Garbage(heap)
    await walked(garbage)
    before = heap.whole_collections
    for _ in range(4 * COME_MAX // CALM_MAX):
        heap.frozen = 5000
        heap.old = CALM_MAX
        await walked(garbage)
    assert heap.whole_collections == before


CIRCLES = """
import gc, sys, trio
from hookd.edge.garbage import Garbage

class Circle:
    pass

async def main(count, kept_at_once):
    kept = []
    for _ in range(count):
        circle = Circle()
        circle.itself = circle
        kept.append(circle)
        if len(kept) == kept_at_once:
            kept.clear()
            await trio.sleep(0)
    await trio.sleep(0.001)
    print(sum(type(one) is Circle for one in gc.get_objects()), gc.get_stats()[2]["collections"] - before)

garbage = Garbage()
garbage.take_over()
before = gc.get_stats()[2]["collections"]
trio.run(main, *map(int, sys.argv[1:]), instruments=[garbage])
assert gc.get_freeze_count() > 10_000
"""


@pytest.mark.parametrize(("count", "kept_at_once", "left_max"), [(500_000, 100, CALM_MAX), (2_000_000, 6000, COME_MAX)])
def test_circles_are_found(count: int, kept_at_once: int, left_max: int) -> None:
    """By the collector of a whole process, of which CPython walks through the old no more: few as they are, or many."""
    command = [sys.executable, "-c", CIRCLES, str(count), str(kept_at_once)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    left, collections = map(int, done.stdout.split())
    assert left < left_max * 1.25  # a look comes after so many walks
    assert 1 <= collections <= 8
