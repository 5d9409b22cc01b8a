"""The old is walked through after a flood and not within it; and where it may be garbage, however much it is."""

import subprocess
import sys

import pytest
import trio
from hookd.edge.garbage import CALM_MAX, OLD_MAX, YOUNG_WALKS, Garbage


class Heap:
    """So many old objects, of which a collection leaves some."""

    def __init__(self) -> None:
        self.old = self.left = 5000
        self.collections = 0

    def count(self) -> int:
        return self.old

    def collect(self) -> None:
        self.collections += 1
        self.old = self.left


def garbage_of(heap: Heap) -> Garbage:
    return Garbage(count_old=heap.count, collect=heap.collect)


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
    ("come", "collections"), [(0, 1), (CALM_MAX, 1), (CALM_MAX + 1, 0), (OLD_MAX - 1, 0), (OLD_MAX, 1)]
)
async def test_collects_while_little_is_old_or_much(autojump_clock, come: int, collections: int) -> None:
    """In between what is old is a flood of connections."""
    heap = Heap()
    garbage = garbage_of(heap)
    await walked(garbage)
    assert heap.collections == 1
    heap.old += come
    await walked(garbage)
    assert heap.collections == 1 + collections


async def test_young_are_walked_through_so_often_first(autojump_clock) -> None:
    """Only those walks count, and each of them once."""
    heap = Heap()
    garbage = garbage_of(heap)
    await walked(garbage, YOUNG_WALKS - 1)
    assert heap.collections == 0
    await walked(garbage, 1)
    assert heap.collections == 1
    await walked(garbage, YOUNG_WALKS - 1)
    assert heap.collections == 1


async def test_what_stays_is_not_taken_for_a_flood(autojump_clock) -> None:
    """Many registered clients: what was left the last time is no news."""
    heap = Heap()
    garbage = garbage_of(heap)
    heap.old = heap.left = OLD_MAX + 100_000
    await walked(garbage)
    assert heap.collections == 1
    heap.old += CALM_MAX
    await walked(garbage)
    heap.old += CALM_MAX
    await walked(garbage)
    assert heap.collections == 3


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


@pytest.mark.parametrize(("count", "kept_at_once", "left_max"), [(500_000, 100, CALM_MAX), (2_000_000, 6000, OLD_MAX)])
def test_circles_are_found(count: int, kept_at_once: int, left_max: int) -> None:
    """By the collector of a whole process, of which CPython walks through the old no more: few as they are, or many."""
    command = [sys.executable, "-c", CIRCLES, str(count), str(kept_at_once)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    left, collections = map(int, done.stdout.split())
    assert left < left_max * 1.25  # a look comes after so many walks
    assert 1 <= collections <= 8
