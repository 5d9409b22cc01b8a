"""The sums over the settings."""

import tracemalloc

import pytest
from hookd.core.book import Book
from hookd.core.client import Client, Endpoint
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.event import Event
from hookd.core.record import largest_row_bytes
from hookd.core.retention import ROWS_BYTES_LEAST
from hookd.core.segment_layout import SEGMENTS_KEPT_FREE
from hookd.core.settings import DEFAULTS, RecorderSettings
from hookd.core.sizing import (
    CLIENT_INDEX_BYTES,
    LOG_BYTES,
    LONG_HEAD_BYTES,
    LONG_HEADS_MAX,
    LOOK_UP_THREADS_BYTES,
    UNSETTLED_INDEX_BYTES,
    container_mib,
    horizon_seconds,
    recorder_layout,
    worst_case_bytes,
)
from hookd.edge.egress import long_heads
from hookd.edge.egress.resolver import THREADS_MAX
from hookd.edge.logs import LINES_BYTES_MAX, LINES_MAX
from msgspec.structs import replace


def test_worst_case_is_the_sum_of_what_each_key_allows() -> None:
    """The parts follow the keys, and the default is about a gibibyte."""
    parts = worst_case_bytes(DEFAULTS)
    assert parts["unsettled events"] == DEFAULTS.intake.unsettled_bytes_max
    assert parts["rows of settled events"] == 2 * ROWS_BYTES_LEAST + 250_000 * 1024
    assert parts["settlement feed"] == 140_000_000
    assert parts["notices"] == 5000 * 2000 + 15_000 * 1024
    assert parts["operational events"] == 0
    assert parts["responses being read"] == 4096 * 16 * 1024
    assert parts["bodies being received"] == (64 + 2 * 16) * 2**20
    assert parts["connections of the API"] == 1000 * 96 * 1024
    assert parts["answers not yet taken"] == 64 * 2**20 + 2 * 2**20 + 1000 * 32 * 1024
    assert parts["payloads of delivered events"] == DEFAULTS.retention.delivered_bytes_max
    assert parts["payloads of exhausted events"] == DEFAULTS.retention.exhausted_bytes_max
    assert parts["response excerpts"] == DEFAULTS.retention.excerpts_bytes_max
    assert parts["flight recorder (shared memory)"] == DEFAULTS.recorder.bytes_max
    assert parts["attempts in flight"] == 4096 * 48 * 1024 + 256 * 160 * 1024
    assert parts["requests prepared for endpoints"] == 20_000 * 1024
    assert parts["signing keys"] == 4096 * 700
    assert parts["TLS contexts of endpoints"] == 33 * 2**20
    assert sum(parts.values()) - parts["TLS contexts of endpoints"] < 1.86 * 2**30


def test_tls_contexts_are_counted_with_the_authorities_that_stand_in_each() -> None:
    """One more than endpoints may have of their own: that of `[egress]`."""
    shared = EndpointEgress(ca="c" * 2**18)
    settings = replace(DEFAULTS, egress=replace(DEFAULTS.egress, tls_contexts_max=7, shared=shared))
    assert worst_case_bytes(settings)["TLS contexts of endpoints"] == 8 * (2**20 + 8 * 2**18)


def test_container_gets_the_sum_of_the_parts_upward_to_whole_mebibytes() -> None:
    """One number, never less than its parts; a byte over a whole MiB is the next one."""
    for settings_bytes_max in (256 * 2**20, 256 * 2**20 + 1):
        settings = replace(DEFAULTS, intake=replace(DEFAULTS.intake, receiving_bytes_max=settings_bytes_max))
        total = sum(worst_case_bytes(settings).values())
        assert 0 <= container_mib(settings) * 2**20 - total < 2**20


def test_numbers_that_stand_twice_are_the_same() -> None:
    """Core cannot import what edge and flow know: here they are compared."""
    assert (LONG_HEADS_MAX, LONG_HEAD_BYTES) == (long_heads.LONG_HEADS_MAX, long_heads.LONG_HEAD_HELD_BYTES)
    assert LOG_BYTES > LINES_BYTES_MAX + 50 * LINES_MAX


def test_clients_of_the_file_are_counted_as_they_are() -> None:
    """They come on top of what the API may register."""
    headers = tuple((f"x-{number}", "v" * 4096) for number in range(20))
    endpoints = tuple(
        Endpoint(id=f"e{number}", url="https://a.example/", secret="s" * 50, headers=headers) for number in range(16)
    )
    client = Client(id="a", endpoints=endpoints, managed_by_config=True)
    parts = worst_case_bytes(replace(DEFAULTS, clients=(client,)))
    more_bytes = parts["registered clients"] - worst_case_bytes(DEFAULTS)["registered clients"]
    assert 16 * 20 * 4096 < more_bytes == client.held_bytes < 1.2 * 16 * 20 * 4096


def test_worst_case_counts_no_recorder_that_is_off() -> None:
    """An empty directory switches the recorder and its memory off."""
    off = replace(DEFAULTS, recorder=RecorderSettings(directory=""))
    assert worst_case_bytes(off)["flight recorder (shared memory)"] == 0


@pytest.mark.parametrize(("clients", "each"), [(1, 20_000), (1000, 10), (5000, 1)])
def test_index_of_unsettled_events_is_charged(clients: int, each: int) -> None:
    """However the events are spread, and while as many come as settle: what tracemalloc sees is no more."""
    books, total = [Book("c") for _ in range(clients)], clients * each
    events = [Event(10**6 + number, "e", "c", "t", b"", 0.0, 0.0, ()) for number in range(3 * total)]
    held_bytes = 0
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for place, event in enumerate(events):
        unsettled = books[place % clients].unsettled
        if place >= total:
            unsettled.remove(events[place - total])
        unsettled.add(event)
        if place % 997 == 0:
            held_bytes = max(held_bytes, tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    assert total * 8 < held_bytes <= total * UNSETTLED_INDEX_BYTES + clients * CLIENT_INDEX_BYTES


@pytest.mark.parametrize("payloads", [False, True])
def test_layout_has_rows_of_what_the_recorder_holds(payloads: bool) -> None:
    """Without payloads no byte of one is in its largest row; how many fit is a whole number."""
    settings = replace(DEFAULTS, recorder=replace(DEFAULTS.recorder, payloads=payloads))
    payload_bytes_max = settings.intake.payload_bytes_max * payloads
    found = recorder_layout(settings)
    assert found.row_bytes == largest_row_bytes(payload_bytes_max, settings.registry.endpoints_max)
    for segments in (0, 1, SEGMENTS_KEPT_FREE, SEGMENTS_KEPT_FREE + 1, 100):
        rows_bytes = found.rows_bytes_max(segments)
        room_bytes = max(0, segments - SEGMENTS_KEPT_FREE) * (found.segment_bytes - found.row_bytes)
        assert isinstance(rows_bytes, int)
        assert 2 * rows_bytes <= room_bytes < 2 * rows_bytes + 2
    assert isinstance(found.events_max(settings.recorder.bytes_max, payload_bytes=100), int)


def test_threads_of_look_ups_are_charged() -> None:
    """32 KiB each: 22 were measured, with what getaddrinfo leaves of its stack."""
    assert worst_case_bytes(DEFAULTS)["threads of look-ups"] == LOOK_UP_THREADS_BYTES == THREADS_MAX * 32 * 1024


def test_indexes_follow_the_events_and_the_recorder() -> None:
    """With the recorder off its own index is none."""
    off = replace(DEFAULTS, recorder=RecorderSettings(directory=""))
    with_it, without = (worst_case_bytes(one)["indexes of unsettled events"] for one in (DEFAULTS, off))
    assert without == 100_000 * 105 + 20_000 * 160
    assert with_it == without + 100_000 * 60 + 20_000 * 160


def test_horizon_is_the_sum_of_the_delays_with_jitter() -> None:
    """The default spreads six attempts over about 43 minutes."""
    earliest, latest = horizon_seconds(DEFAULTS.retry.schedule_seconds, 0.0)
    assert earliest == latest == 2555
    assert horizon_seconds((10.0, 20.0), 0.2) == pytest.approx((24, 36))
    assert horizon_seconds((), 0.2) == (0, 0)
