"""The pytest plugin: fixture `truetape_sim`, a simulated venue with a fault script for a test of yours. The gateway never imports this.

    async def test_my_strategy_stands_aside(truetape_sim):
        async with truetape_sim("kraken", faults="mute-symbol@1s") as sim, truetape.open(sim.config()) as gw:
            ...

It is found by pytest when truetape is installed; docs/simulator.md tells more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from truetape.app.stage import Stage


@pytest.fixture
def truetape_sim() -> Iterator[Callable[..., Stage]]:
    """Makes simulated venues: `truetape_sim(venue, symbols=2, rate=100, seed=1, faults="…")`; enter what it returns (`truetape.app.stage`)."""
    made: list[Stage] = []

    def make(venue: str = "kraken", **options: object) -> Stage:
        made.append(Stage(venue, **options))  # type: ignore[arg-type]  # checked when it is called, by name
        return made[-1]

    yield make
    for stage in made:
        stage.stop()
