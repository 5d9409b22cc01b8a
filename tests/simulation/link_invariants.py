"""The invariants of links: which answers count, what a link may still be used for, and which address is gone to.

Called by invariants.py, at the moments that its tap is told of.
"""

from typing import TYPE_CHECKING

from tests.simulation.model import Attempt, Exchange, Host, Registered

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
BODY_SECONDS_MAX = 1.0  # for the rest of an answer that was decided by its head
WRITING_SECONDS_MAX = 10.0  # the same while the request is still being written
STAGGER_SECONDS = 0.25  # RFC 8305: after which a second address is tried
DEAD_FAMILIES = ("one_family", "other_family")


def check_reuse(world: "World", before: Exchange, received_bytes: int) -> None:
    """A request follows on a link on which so many bytes had come by then."""
    answer, name = before.answer, before.attempt.host.name
    if answer is None:
        return world.fail("S9", f"a request to {name} went out on a link whose last one has no answer")
    if answer.ends_link:
        world.fail("S9", f"a request to {name} went out on a link whose last answer does not say where it ends")
    elif received_bytes > answer.end:
        world.fail(
            "S9", f"a request to {name} went out behind {received_bytes - answer.end} bytes that were not asked for"
        )
    return None


def check_repeat(world: "World", attempt: Attempt) -> None:
    """A stale link costs one more try, on a fresh one."""
    count = len(attempt.exchanges)
    if count > 2 or (count == 2 and (attempt.exchanges[1].is_kept or not attempt.exchanges[0].is_kept)):
        world.fail("S3", f"an attempt at {attempt.host.name} posted {count} times, or again on a kept link")


def check_address(world: "World", exchange: Exchange) -> None:
    """Of an attempt that began when the name had long moved, nothing goes to where it was."""
    attempt = exchange.attempt
    left_at = attempt.host.left.get(exchange.link.address)
    age_seconds_max = world.settings.delivery.connection_age_seconds_max
    if left_at is not None and attempt.begun_at > left_at + age_seconds_max + EPSILON:
        late = attempt.begun_at - left_at
        world.fail("S10", f"{exchange.link.address} was posted to {late:.3f} s after {attempt.host.name} had moved")


def may_be_dialled(world: "World", host: Host, address: str) -> bool:
    """The name points there, or did when it was looked up for an attempt that is still under way."""
    longest = max(world.checks.registered[host.key].timeout, world.settings.delivery.timeout_seconds)
    left_at = host.left.get(address)
    return address in host.addresses or (left_at is not None and world.now() <= left_at + longest + EPSILON)


def check_closed(world: "World", exchange: Exchange) -> None:
    """Whole or closed: an answer that has decided, or that is there to be read."""
    now, name = world.now(), exchange.attempt.host.name
    if exchange.is_delivered and exchange.read_at is not None:
        is_written = exchange.written_at is not None and exchange.written_at <= exchange.read_at
        longest = BODY_SECONDS_MAX if is_written else WRITING_SECONDS_MAX
        if now - exchange.read_at > longest + EPSILON:
            world.fail(
                "S6", f"a link to {name} was held for {now - exchange.read_at:.3f} s after its answer had decided"
            )
    if exchange.hung_up_at is None or exchange.read_at is not None or not world.run.is_lasting:
        return
    if now < exchange.attempt.begun_at + world.checks.registered[exchange.attempt.host.key].timeout - EPSILON:
        world.fail("S9", f"{name} had answered before it hung up, and the answer was not read")


def check_earlier_attempts(world: "World", endpoint: Registered) -> None:
    """Asked when another begins: where one of two addresses leads nowhere the other one is taken in time."""
    for one in endpoint.history:
        if one.is_open or one.exchanges or one.was_cut or one.fault not in DEAD_FAMILIES or one.failed_at is None:
            continue
        if one.way:
            continue  # a proxy looks it up
        if one.failed_at > world.now() - EPSILON:
            continue  # its dial ended in this moment; the request may be about to be written
        lasted = one.failed_at - one.begun_at
        if lasted > STAGGER_SECONDS + EPSILON:
            world.fail("S5", f"an attempt at {one.host.name} came to nothing in {lasted:.3f} s for one dead address")


def check_timeout_of_request(world: "World", before: Attempt, what: str) -> None:
    """Asked when the next attempt of a delivery is seen: a 408 on a kept link is no attempt's end."""
    last = before.exchanges[-1]
    if last.is_repeated and last.read_at is not None and (before.failed_at or -1.0) < last.read_at:
        world.fail("S3", f"{what}: the one before was used up by a 408 on a kept link")
