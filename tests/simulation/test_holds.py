"""No step of a task holds the loop for 50 ms, whatever waits and whatever has settled; a walk in one go is found."""

import pytest
from hookd.core.listing import Listing
from hookd.flow.adoption import Adoption
from hookd.flow.endings import Endings
from hookd.flow.replay import Replay

from tests.simulation.holds import SCENES, SETTLED, STEP_LINES_MAX, WAITING, Step, longest_steps
from tests.simulation.mutants import Mutant, applied

# More than one page looks at; and how much more a step may do beside twice as much.
FEW, MANY, GROWTH_LINES_MAX = 12_000, 24_000, 2_000


def too_long(steps: dict[str, Step]) -> dict[str, Step]:
    return {operation: step for operation, step in steps.items() if step.lines > STEP_LINES_MAX}


@pytest.mark.second_round
@pytest.mark.timeout(1200)
def test_no_step_is_longer_than_50_ms() -> None:
    """Each operation once, at all that one client may have waiting."""
    steps = longest_steps(WAITING, SETTLED)
    assert len(steps) > len(SCENES)
    assert all(step.lines for step in steps.values())
    assert too_long(steps) == {}


def grown() -> dict[str, tuple[int, int]]:
    """What reads and waits for do more of beside more that has settled."""
    few, many = (longest_steps(1_000, settled, scenes=("read",)) for settled in (FEW, MANY))
    found = {operation: (few[operation].lines, many[operation].lines) for operation in few}
    return {operation: (less, more) for operation, (less, more) in found.items() if more - less > GROWTH_LINES_MAX}


@pytest.mark.timeout(600)
def test_no_step_grows_with_what_has_settled() -> None:
    assert grown() == {}


@pytest.mark.timeout(600)
def test_page_that_looks_at_every_row_is_found() -> None:
    """The check of growth: a filtered page without an end."""
    with applied(Mutant("looks_on", Listing, "page", "looks >= PAGE_LOOKS_MAX or ", "")):
        assert any("/v1/events?" in operation for operation in grown())


IN_ONE_GO = {
    "gone": (
        3_000,
        Mutant(
            "gives_up_all",
            Endings,
            "_give_up_some",
            "self._given_up < ROWS_AT_ONCE and self._looked_at < LOOKED_AT_AT_ONCE",
            "True",
        ),
    ),
    "adopt": (
        8_000,
        Mutant("adopts_all", Adoption, "_take_some", "count < ROWS_AT_ONCE and looked_at < LOOKED_AT_AT_ONCE", "True"),
    ),
    "replay": (
        3_000,
        Mutant(
            "reopens_all",
            Replay,
            "_look",
            "looks >= LOOKED_AT_AT_ONCE",
            "False",
        ),
    ),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", IN_ONE_GO)
def test_slices_taken_out_are_found(scene: str) -> None:
    """What is done in one go is too long, and with its slices it is not."""
    waiting, mutant = IN_ONE_GO[scene]
    with applied(mutant):
        assert too_long(longest_steps(waiting, SETTLED, scenes=(scene,)))
