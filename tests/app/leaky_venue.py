"""A venue file of somebody's own that leaks: it keeps a copy of every frame, and some more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from truetape.venues import kraken

KEPT: list[bytes] = []
LEAK = int(os.environ.get("LEAK_BYTES", "20000"))


class Dialect(kraken.Dialect):
    """Kraken's."""

    def decode(self, data: bytes, recv: int) -> Sequence[Any]:
        """And the leak."""
        KEPT.append(bytes(LEAK))
        return super().decode(data, recv)
