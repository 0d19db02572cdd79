"""A dead link is given up within its profile's bound, by our own watchdog, however it died: real sockets, a real kernel that drops packets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.io import dead_link, netns
from tests.io.dead_link import BOUNDS_S, MODES, Found

SEED = 20_260_102
CUT = [name for name, mode in MODES.items() if mode.cut]
HERE = [name for name, mode in MODES.items() if not mode.cut]
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "liveness.md"
FROM, TO = "<!-- dead links: measured by make soak -->\n", "<!-- end -->\n"


def judged(found: list[Found], count: int, profiles: list[str], modes: list[str]) -> None:
    assert len(found) == count * len(profiles) * len(modes)
    assert (why := dead_link.worst(found, lambda row: row.after_s <= BOUNDS_S[row.profile])) == "[]", why
    assert (why := dead_link.worst(found, lambda row: row.reason.startswith("dead_link: "))) == "[]", why
    assert all(row.closed for row in found), "the socket is gone, whatever stood in its buffer"
    stuffed = [row.left for row in found if MODES[row.mode].full]
    assert min(stuffed) > 0, "our send buffer was full"


def test_a_stopped_or_deaf_venue_is_given_up_within_the_bound() -> None:
    profiles = ["default", "fast"]
    judged(dead_link.run(10, profiles, HERE, SEED), 10, profiles, HERE)


def test_a_link_whose_packets_are_dropped_is_given_up_within_the_bound() -> None:
    if why := netns.refused():
        pytest.skip(why)
    profiles = ["default", "fast"]
    judged(dead_link.run(10, profiles, CUT, SEED), 10, profiles, CUT)


@pytest.mark.soak
def test_fifty_trials_of_each() -> None:
    """Writes its figures into docs/liveness.md."""
    if not os.environ.get("TRUETAPE_SOAK"):
        pytest.skip("set TRUETAPE_SOAK=1: this takes minutes")
    if why := netns.refused():
        pytest.skip(why)
    profiles = list(BOUNDS_S)
    found = []
    for name in MODES:  # one by one: three times fifty connections each
        found += dead_link.run(50, profiles, [name], SEED + len(found))  # phases of its own
    judged(found, 50, profiles, list(MODES))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(FROM)
    assert rest, f"{PAGE} has no place for the figures"
    PAGE.write_text(before + FROM + dead_link.table(found) + TO + rest.partition(TO)[2], encoding="utf-8")
