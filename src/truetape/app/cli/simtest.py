"""`truetape simtest`: seeds of the deterministic simulation, a line for each on stdout; where one failed exit 1 and a last line `seed=S …`."""

from __future__ import annotations

import json
import os
import sys

import truetape
from truetape.app.simtest import Verdict, judge_all, shortest_script
from truetape.core.weather.scenario import draw
from truetape.io.clock import now as clock


def simtest(seeds: int, start: int, processes: int, as_json: bool) -> int:
    """Play them; 0 where everything held, 1 where something did not."""
    began = clock()
    failed: list[Verdict] = []
    played = events = 0
    virtual = 0.0
    for verdict in judge_all(range(start, start + seeds), processes or os.cpu_count() or 1):
        played += 1
        if verdict.outcome is not None:
            events += verdict.outcome.events
            virtual += verdict.outcome.virtual_s
        else:
            failed.append(verdict)
            print(f"seed {verdict.seed}: {verdict.why}", file=sys.stderr)
        if not as_json:
            print(line(verdict), flush=True)
    took = (clock() - began) / 1e9
    if failed:
        explain(failed[0])
    tree = {
        "seeds": played, "from": start, "failed": [verdict.seed for verdict in failed], "events": events,
        "virtual_s": round(virtual, 1), "seconds": round(took, 2), "seeds_per_minute": round(60 * played / took, 1),
    }  # fmt: skip
    rate = f"{tree['seeds_per_minute']} seeds a minute, {events // max(1, played - len(failed)):,} events a seed"
    print(
        f"{played} seeds, {len(failed)} failed; {virtual:,.0f} s of virtual time in {took:.1f} s: {rate}",
        file=sys.stderr,
    )
    if as_json:
        print(json.dumps(tree))
    elif failed:
        first = failed[0]
        again = f"truetape simtest --seeds 1 --from {first.seed}"
        print(f"seed={first.seed} failed with truetape {truetape.__version__}: {first.why} (again: {again})")
    return 1 if failed else 0


def line(verdict: Verdict) -> str:
    """What became of one seed."""
    if (made := verdict.outcome) is None:
        return f"seed={verdict.seed} failed"
    return (
        f"seed={made.seed} ok virtual_s={made.virtual_s:.1f} events={made.events} records={made.records} "
        f"published={made.published} compared={made.compared} mishaps={len(draw(made.seed).mishaps)} gaps={made.gaps} "
        f"reconnects={made.reconnects} digest={made.digest[:16]}"
    )


def explain(verdict: Verdict) -> None:
    """The shortest script that still fails, and where, on stderr."""
    print(verdict.trace, file=sys.stderr)
    print(f"making seed {verdict.seed} smaller …", file=sys.stderr)
    mishaps, small = shortest_script(verdict.seed)
    print(f"the shortest script of seed {verdict.seed} that still fails ({small.why}):", file=sys.stderr)
    for mishap in mishaps:
        print(f"  {mishap}", file=sys.stderr)
    if not mishaps:
        print("  nothing has to go wrong for it", file=sys.stderr)
