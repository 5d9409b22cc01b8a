"""Reading takes any bytes: what it names is true, what it cannot read is counted, and it never claims too much."""

import functools
import struct
from collections.abc import Callable
from zlib import crc32

import msgspec
import pytest
from hookd.core import crash
from hookd.core.record import Ended
from hookd.core.record_reader import read_framed
from hookd.core.report import class_of
from hookd.core.report_text import text
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.core.recorder_harness import RUN_ID, History, named, picture, read

Segments = list[tuple[int, bytes]]


@functools.cache
def history(payloads: bool, seed: int = 4) -> History:
    return History(seed, steps=600, payloads=payloads, unsettled_max=12)


def assert_true(segments: Segments, payloads: bool) -> None:
    """Every event named is one that there was, and no class is safer than the truth."""
    whole = history(payloads)
    recording = read(segments)
    identity = read(whole.store.segments()).header
    assert identity is not None
    for serial, event in recording.events.items():
        real = whole.events[serial]
        assert named(event, payloads=True) == named(real, payloads=payloads)
        assert len(event.deliveries) <= len(real.deliveries)
        for told, delivery in zip(event.deliveries, real.deliveries, strict=False):
            assert told.endpoint_id == delivery.endpoint_id
            assert told.url in {f"{delivery.url[:20]}", f"{delivery.url[:20]}/v2"}
            assert told.attempt_count <= delivery.attempt_count
    if not recording.is_whole:
        summary = crash.summarise(recording, identity, heard_at=0.0)
        assert not summary.balanced
        assert "NOT WHOLE" in text(summary, path="/x")
    assert len(list(crash.lines(recording))) >= len(recording.events)


def assert_no_class_is_too_safe(segments: Segments, payloads: bool) -> None:
    """Where the end is not known, nothing that was unsettled is called safe to send again but what truly is."""
    truth = {event.sequence for event in history(payloads).ledger.unsettled}
    for serial, event in read(segments).events.items():
        for told, delivery in zip(event.deliveries, history(payloads).events[serial].deliveries, strict=False):
            if not told.is_settled and class_of(told) == "never_attempted":
                assert delivery.attempt_count == 0
            if not told.is_settled and class_of(told) == "attempted_failed":
                assert serial in truth
                assert not delivery.maybe_received
                assert not delivery.in_flight


def flipped(segments: Segments, at: int, value: int) -> Segments:
    size = len(segments[0][1])
    number, data = segments[at // size % len(segments)]
    changed = bytearray(data)
    changed[at % size] ^= value
    return [(one, bytes(changed) if one == number else content) for one, content in segments]


@pytest.mark.parametrize("payloads", [False, True])
def test_whole_recording_is_the_ledger(payloads: bool) -> None:
    """What is fuzzed below is worth it: several segments, many events, and all of it readable."""
    whole = history(payloads)
    assert len(whole.store.log) >= 3
    assert picture(read(whole.store.segments()).events.values()) == picture(whole.ledger.unsettled)
    assert read(whole.store.segments()).is_whole


@pytest.mark.parametrize("payloads", [False, True])
def test_what_stands_at_any_moment_is_the_history_so_far(payloads: bool) -> None:
    """A kill after any step: exactly what the ledger held then, and nothing in doubt."""

    def check(running: History) -> None:
        recording = read(running.store.segments())
        assert recording.is_whole
        assert picture(recording.events.values()) == picture(running.ledger.unsettled)

    History(8, steps=400, payloads=payloads, after_step=check)


@given(payloads=st.booleans(), end=st.integers(0, 4095))
@hypothesis_settings(max_examples=200)
def test_truncated_segment_is_a_prefix_and_is_said_to_be_cut(payloads: bool, end: int) -> None:
    """The newest segment ends at any byte: what it still names is as it was then, and what is missing is counted.

    What was unsettled in segments that are gone by then, and was carried to where the cut is, cannot be named.
    """
    whole = history(payloads)
    *before, (number, newest) = whole.store.segments()
    recording = read([*before, (number, newest[:end])])
    assert not recording.is_whole
    expected = whole.pictures.get(recording.sequence)
    if expected is None:  # between the two records of one step
        return
    for serial, told in picture(recording.events.values()).items():
        then = expected[serial]
        assert all(one.maybe_received for one in told if one.status in ("pending", "failed"))
        assert [one._replace(maybe_received=True) for one in told] == [
            one._replace(maybe_received=True) for one in then
        ]


@given(payloads=st.booleans(), at=st.integers(0, 2**20), value=st.integers(1, 255))
@hypothesis_settings(max_examples=250)
def test_any_flipped_byte_is_noticed_and_misleads_nobody(payloads: bool, at: int, value: int) -> None:
    """One byte of one segment is another: its record and what follows in that segment are dropped and counted."""
    segments = flipped(history(payloads).store.segments(), at, value)
    recording = read(segments)
    assert recording.unread_bytes > 0
    assert_true(segments, payloads)
    assert_no_class_is_too_safe(segments, payloads)


@given(
    payloads=st.booleans(),
    ends=st.lists(st.integers(0, 4096), min_size=32, max_size=32),
    missing=st.sets(st.integers(0, 31), max_size=4),
    patches=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 4096), st.binary(max_size=64)), max_size=4),
)
@hypothesis_settings(max_examples=150)
def test_any_damage_is_counted_and_never_fatal(
    payloads: bool, ends: list[int], missing: set[int], patches: list[tuple[int, int, bytes]]
) -> None:
    """Segments cut anywhere, missing, and written over: what is still named is true."""
    segments = []
    for index, (number, data) in enumerate(history(payloads).store.segments()):
        changed = bytearray(data)
        for of, at, patch in patches:
            if of == index:
                changed[at : at + len(patch)] = patch
        if index not in missing:
            segments.append((number, bytes(changed[: ends[index]] if ends[index] else changed)))
    assert_true(segments, payloads)


@given(st.lists(st.binary(max_size=300), max_size=3))
@hypothesis_settings(max_examples=200)
def test_random_files_name_nothing(contents: list[bytes]) -> None:
    """Files that only bear the name of a segment."""
    recording = read(list(enumerate(contents)))
    assert recording.header is None
    assert not recording.events
    assert recording.unread_bytes == sum(len(content.rstrip(b"\0")) for content in contents)
    assert recording.records_missing == len(contents)


def test_segments_under_another_name_or_of_another_run_are_not_read() -> None:
    """A copied file, a file in the wrong place, and another run's: none of it is this run's story."""
    segments = history(False).store.segments()
    number, newest = segments[-1]
    as_they_are = picture(read(segments).events.values())
    copied = read([*segments, (number + 1, newest)])
    assert set(copied.events) == set(as_they_are)
    assert copied.unread_bytes == len(newest.rstrip(b"\0"))
    foreign = [(one, data.replace(RUN_ID.encode(), b"runX")) for one, data in segments]
    assert read(foreign).header is None


def ended_in(segment: bytes) -> set[tuple[int, int]]:
    """The deliveries of which the segment tells an attempt's end, as (serial, index)."""
    ended, offset = set(), 0
    while (read_one := read_framed(segment, offset)) is not None:
        _, record, offset = read_one
        if isinstance(record, Ended):
            ended.add((record.serial, record.index))
    return ended


def test_missing_segment_is_counted_in_records_and_doubts_what_was_before() -> None:
    """A lost record may have been an attempt's: nothing from before it is called safe to send again.

    An end that was recorded later says of all attempts whether they may have been received: then nothing is in doubt.
    """
    doubted = known = 0
    for seed in range(1, 25):
        whole = history(False, seed)
        segments = whole.store.segments()
        recording = read(segments[:-2] + segments[-1:])
        assert recording.records_missing > 10
        rows_after = read(segments[-1:]).events
        ended_after = ended_in(segments[-1][1])
        for event in (event for serial, event in recording.events.items() if serial not in rows_after):
            for index, told in enumerate(event.deliveries):
                if told.is_settled or told.attempts:
                    continue
                if (event.sequence, index) in ended_after:
                    known += 1
                    assert told.maybe_received == whole.events[event.sequence].deliveries[index].maybe_received
                else:
                    doubted += 1
                    assert class_of(told) == "outcome_unknown"
    assert doubted
    assert known


def reframed(data: bytes, choose: int, patch: Callable[[bytes], bytes]) -> bytes:
    """One record of the segment says something else, and its checksum fits."""
    offsets, offset = [], 0
    while (read_one := read_framed(data, offset)) is not None:
        offsets.append((offset, read_one[2]))
        offset = read_one[2]
    begin, end = offsets[choose % len(offsets)]
    tail = patch(data[begin + 8 : end])
    changed = data[:begin] + struct.pack("<II", len(tail), crc32(tail, len(tail))) + tail + data[end:]
    return changed[: len(data)]


@given(
    payloads=st.booleans(),
    segment=st.integers(0, 31),
    choose=st.integers(0, 200),
    at=st.integers(0, 400),
    patch=st.binary(max_size=24),
    keeps_kind=st.booleans(),
)
@hypothesis_settings(max_examples=300)
def test_record_that_means_something_else_is_never_fatal(
    payloads: bool, segment: int, choose: int, at: int, patch: bytes, keeps_kind: bool
) -> None:
    """A checksum that fits and a body of another version, or a bug's: whatever it says, there is a report of it."""

    def write_over(tail: bytes) -> bytes:
        begin = at % len(tail)
        changed = tail[:begin] + patch + tail[begin + len(patch) :]
        return tail[:9] + changed[9:] if keeps_kind else changed  # sequence and kind

    segments = history(payloads).store.segments()
    number, data = segments[segment % len(segments)]
    segments[segment % len(segments)] = (number, reframed(data, choose, write_over))
    recording = read(segments)
    identity = recording.header or read(history(payloads).store.segments()).header
    assert identity is not None
    summary = crash.summarise(recording, identity, heard_at=0.0)
    assert text(summary, path="/x")
    assert all(msgspec.json.encode(line) for line in (summary, *crash.lines(recording)))
