"""Begin the process anew, in place: the same command, the same environment, the same process number for whoever supervises it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from truetape.core.guard import Restarts

VARIABLE = "TRUETAPE_RESTARTS"
"""How the restarted process knows what happened before: `COUNT:WHEN_NS`."""


def before(environ: Mapping[str, str] = os.environ) -> Restarts:
    """The restarts that led to this process."""
    count, _, last = environ.get(VARIABLE, "").partition(":")
    try:
        return Restarts(int(count), int(last))
    except ValueError:
        return Restarts()


def again(restarts: Restarts) -> None:
    """Does not return. To be called when everything is closed: the tape, the sockets, the loop."""
    os.environ[VARIABLE] = ":".join(map(str, (restarts.count, restarts.last)))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
