"""A thousand daemons behind HAProxy, worked out: how even they are, and what moves when some drain, die and return."""

from collections import Counter

import pytest

from tests.ring import Ring

SHARDS = range(1, 1001)
# Of many, 320 places in the ring each are enough.
WEIGHT = 20
CLIENTS = [f"client-{number}" for number in range(30_000)]
# With 30 clients on each, chance alone gives the fullest about 1.6 of the mean; the ring adds to that.
FULLEST_MOST = 2.0
ONE_GONE = frozenset({500})
MANY_GONE = frozenset(range(100, 150))

Homes = dict[str, int]


@pytest.fixture(scope="module", name="ring")
def ring_of_all() -> Ring:
    return Ring(SHARDS, weight=WEIGHT)


@pytest.fixture(scope="module", name="homes")
def homes_of_all(ring: Ring) -> Homes:
    return {client_id: ring.server_of(client_id) for client_id in CLIENTS}


def test_thousand_daemons_are_even(homes: Homes) -> None:
    """None is idle, and the fullest is not far from the mean."""
    spread = Counter(homes.values())
    mean = len(CLIENTS) / len(SHARDS)
    fullest, emptiest = (bound(spread[shard] for shard in SHARDS) / mean for bound in (max, min))
    print(f"{len(SHARDS)} daemons, {mean:g} clients each: from {emptiest:.2f} to {fullest:.2f} of that")
    assert fullest <= FULLEST_MOST
    assert emptiest > 0


@pytest.mark.parametrize("gone", [ONE_GONE, MANY_GONE], ids=["a_drain", "a_loss_of_fifty"])
def test_only_the_clients_of_those_that_are_gone_move(gone: frozenset[int], ring: Ring, homes: Homes) -> None:
    """And they do not all go to one other: a neighbour that took them all would be the next to fall."""
    after = {client_id: ring.server_of(client_id, gone) for client_id in CLIENTS}
    moved = {client_id for client_id in CLIENTS if after[client_id] != homes[client_id]}
    assert moved == {client_id for client_id in CLIENTS if homes[client_id] in gone}
    assert gone.isdisjoint(after.values())
    taken = Counter(after[client_id] for client_id in moved)
    most = max(taken.values())
    print(f"{len(gone)} gone: {len(moved)} clients moved to {len(taken)} others, at most {most} to one")
    assert most <= max(3, len(moved) // 20)
    fullest = max(Counter(after.values()).values()) / (len(CLIENTS) / (len(SHARDS) - len(gone)))
    assert fullest <= FULLEST_MOST


def test_what_returns_has_its_clients_again(ring: Ring, homes: Homes) -> None:
    """The ring has no memory: who is where follows from who is there."""
    assert {client_id: ring.server_of(client_id) for client_id in CLIENTS[:5000]} == dict(list(homes.items())[:5000])


def test_a_daemon_more_takes_its_share_and_moves_nobody_else(homes: Homes) -> None:
    """A new line in the file, with an id of its own."""
    ring = Ring([*SHARDS, 1001], weight=WEIGHT)
    moved = {client_id for client_id in CLIENTS if ring.server_of(client_id) != homes[client_id]}
    assert {ring.server_of(client_id) for client_id in moved} == {1001}
    assert 0 < len(moved) <= FULLEST_MOST * len(CLIENTS) / 1001


def test_weight_makes_three_daemons_even() -> None:
    """At weight 1 each has 16 places in the ring, at 100 it has 1,600."""
    spreads = {
        weight: Counter(ring.server_of(client_id) for client_id in CLIENTS)
        for weight, ring in ((weight, Ring([1, 2, 3], weight=weight)) for weight in (1, 100))
    }
    widths = {weight: (max(one.values()) - min(one.values())) / len(CLIENTS) for weight, one in spreads.items()}
    print({weight: sorted(one.values()) for weight, one in spreads.items()})
    assert widths[100] < 0.05
    assert widths[100] < widths[1]
