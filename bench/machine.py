"""The machine under the bench: which cores there are, who is pinned to which, and what to say about it."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
RECEIVER_CORE = CORES[0]
SENDER_CORE = CORES[-1]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started inside are pinned to the core from their first instruction: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described() -> str:
    """One line: what ran this, and how busy it was before we began."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    alone = "" if len(CORES) > 1 else ", sender and receiver share it"
    return f"{model}, {len(CORES)} core(s){alone}, Python {platform.python_version()}, load {load:.2f} at start"
