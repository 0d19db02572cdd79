"""Every planted mistake is noticed by the seed that is listed for it; those that change nothing are named, with the reason."""

import pytest

from tests.sim.mutants import EQUIVALENT, MUTANTS, kills, run

KILLS = kills()


def test_enough_mistakes_are_planted_and_each_is_listed() -> None:
    assert len(MUTANTS) >= 20
    assert set(KILLS) == set(MUTANTS), "python -m tests.sim.mutants finds the seeds anew"


@pytest.mark.parametrize("name", sorted(KILLS))
def test_a_planted_mistake_is_noticed(name: str) -> None:
    verdict = run(MUTANTS[name], KILLS[name])
    assert verdict.why, f"seed {KILLS[name]} holds although {name}"


@pytest.mark.parametrize("name", sorted(EQUIVALENT))
def test_what_changes_nothing_is_not_noticed(name: str) -> None:
    edits, why = EQUIVALENT[name]
    assert why
    assert run(edits, 4).why == ""
