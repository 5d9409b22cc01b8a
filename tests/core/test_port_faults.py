"""No step of the ledger can be torn: whatever a port raises in it, at whichever call, the run is the same run."""

from functools import cache

import pytest
from hookd.core.delivery import Status
from hookd.core.report import class_of

from tests.core.port_faults import RECORDER_CALLS, Faults, FaultyStore, Story
from tests.core.recorder_harness import read

# So many rounds fill enough segments of this size for one to be asked for, and some to be dropped.
ROUNDS = 2
SEGMENT_BYTES = 1400


def told(faults: Faults, *, rounds: int = 1, faulty_recorder: bool = True) -> Story:
    store = FaultyStore(SEGMENT_BYTES, 16)
    return Story(faults, store=store, faulty_recorder=faulty_recorder, rounds=rounds)


@cache
def without_faults(rounds: int, faulty_recorder: bool) -> tuple[Story, list[str]]:
    faults = Faults()
    story = told(faults, rounds=rounds, faulty_recorder=faulty_recorder)
    assert story.failures == []
    assert story.ledger.recorder.failure is None
    return story, faults.calls


def test_story_calls_every_port_in_every_way() -> None:
    """What is never called is not tested by raising there."""
    _, calls = without_faults(1, True)
    assert set(calls) == {*RECORDER_CALLS, "prove", "on_settled", "on_forgotten", "on_given_up"}
    _, calls = without_faults(ROUNDS, False)
    assert set(calls) >= {"allocate", "begin", "append", "drop", "prove"}


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("faulty_recorder", [True, False], ids=["recorder", "store"])
def test_port_that_raises_at_any_call_changes_nothing_of_the_ledger(late: bool, faulty_recorder: bool) -> None:
    """Each call in turn raises once. No step does, and after each the sums, the budget, health and report hold."""
    rounds = 1 if faulty_recorder else ROUNDS
    clean, calls = without_faults(rounds, faulty_recorder)
    for nth, name in enumerate(calls, 1):
        story = told(Faults(nth, late=late), rounds=rounds, faulty_recorder=faulty_recorder)
        assert story.seen == clean.seen, (nth, name)
        ((port, _),) = story.failures
        assert dict(story.ledger.port_failures) == {port: 1}
        assert (port == "recorder") is not name.startswith("on_")
        assert (story.ledger.recorder.failure is not None) is (port == "recorder")
        if port == "recorder":
            assert_claims_no_more_than_it_knows(story)


def assert_claims_no_more_than_it_knows(story: Story) -> None:
    """What the recorder noted before it failed is broken off: a report of it doubts all that was unsettled."""
    recording = read(story.store.segments())
    assert recording.is_broken_off
    assert not recording.is_whole
    for sequence, event in recording.events.items():
        assert event.id == story.events[sequence - 1].id
        for delivery in event.deliveries:
            assert delivery.is_settled or class_of(delivery) == "outcome_unknown"


def test_ports_that_raise_at_every_call_change_nothing_either() -> None:
    """A feed and a log that are broken for good; each failure is counted."""

    class Broken(Faults):
        def on(self, name, call):  # type: ignore[no-untyped-def]
            def broken(*args: object, **fields: object) -> None:
                self.calls.append(name)
                raise OSError(28, "No space left on device")

            return broken

    clean, _ = without_faults(1, True)
    faults = Broken()
    story = told(faults)
    assert story.seen == clean.seen
    assert story.told == {}
    calls = faults.calls
    assert story.ledger.port_failures["recorder"] == 1
    assert story.ledger.port_failures["feed"] == calls.count("on_settled")
    assert story.ledger.port_failures["log"] == calls.count("on_given_up") + calls.count("on_forgotten")
    assert story.ledger.totals().events[Status.DELIVERED]
