"""How a program in the foreground ends: SIGTERM is exit code 0, Ctrl-C is 130, or whoever else says so first.

Next door: the commands that serve until then, `live.py` and `sim.py` with what they serve.
"""

from __future__ import annotations

import asyncio
import signal


class Ending:
    """From now on the running loop's signals end this: `code` is done with the first word that was said."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.code: asyncio.Future[int] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self.end, 0)
        loop.add_signal_handler(signal.SIGINT, self.end, 130)

    def end(self, code: int) -> None:
        """With this exit code, unless it ended before."""
        if not self.code.done():
            self.code.set_result(code)
