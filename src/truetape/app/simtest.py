"""The simulation, wired: the venues' dialects and counterparts for `core.weather`, seeds over several processes, and what to say of them."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import traceback
from collections.abc import Iterator
from functools import cache, partial

from msgspec import Struct
from msgspec.structs import replace

from truetape.app.dialects import Names, dialect
from truetape.app.replay import feed_record
from truetape.core.feed.counterpart import Counterpart
from truetape.core.weather.scenario import VENUES, Mishap, Scenario, draw
from truetape.core.weather.shrink import shortest
from truetape.core.weather.world import Kit, Outcome, World

SHARES = ("tickdb",)
TRIES = 60
"""Runs that making a failure small may take: about half a minute."""


class Verdict(Struct, frozen=True):
    """What became of one seed: `why` is empty where everything held."""

    seed: int
    outcome: Outcome | None
    why: str = ""
    trace: str = ""


@cache
def kits() -> tuple[Kit, ...]:
    """The venues of every seed."""
    return tuple(_kit(venue) for venue in VENUES)


def _kit(venue: str) -> Kit:
    kind = dialect(venue)
    other: type[Counterpart] = importlib.import_module(f"truetape.venues._serve_{venue}").Counterpart
    return Kit(venue, kind, other, partial(Names, kind), venue in SHARES)


def play(scenario: Scenario) -> Outcome:
    """One scenario. Raises what did not hold, or what a bug raised."""
    return World(scenario, kits(), feed_record).play()


def judge(scenario: Scenario) -> Verdict:
    """One scenario; whatever goes wrong is the verdict."""
    try:
        return Verdict(scenario.seed, play(scenario))
    except Exception as error:  # noqa: BLE001  any exception is a finding; whoever asked for the seed decides
        why = f"{type(error).__name__}: {error}"
        return Verdict(scenario.seed, None, why, traceback.format_exc())


def judge_seed(seed: int) -> Verdict:
    """One seed."""
    return judge(draw(seed))


def judge_all(seeds: range, processes: int) -> Iterator[Verdict]:
    """All of these, in order, over so many processes."""
    if processes <= 1 or len(seeds) < 2:
        yield from map(judge_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _settle) as pool:
        yield from pool.imap(judge_seed, seeds, chunksize=min(8, max(1, len(seeds) // (4 * processes))))


def _settle() -> None:
    """In each process: a world is one large heap of objects that all die together; looking through it often costs a tenth of the time."""
    kits()
    gc.freeze()
    gc.set_threshold(100_000, 10, 20)


def shortest_script(seed: int) -> tuple[tuple[Mishap, ...], Verdict]:
    """The fewest mishaps with which this seed still fails, and how."""
    scenario = draw(seed)

    def without(mishaps: list[Mishap]) -> Scenario:
        return replace(scenario, mishaps=tuple(mishaps))

    kept = shortest(scenario.mishaps, lambda mishaps: bool(judge(without(mishaps)).why), TRIES)
    return tuple(kept), judge(without(kept))


def play_traces(seeds: list[int]) -> list[str]:
    """What happened in each of these seeds, in a word: equal where it was the same to the last event and ledger."""
    return [play(draw(seed)).trace for seed in seeds]
