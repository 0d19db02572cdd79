"""How much one client, address or token may do: a bucket of tokens, and counts of what is open."""

from __future__ import annotations

SECOND = 1_000_000_000


class Bucket:
    """`per_s` in the long run, `burst` at once; 0 per second is no limit."""

    __slots__ = ("_at", "_burst", "_full", "_per_s")

    def __init__(self, per_s: float, burst: float, now: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._full = burst
        self._at = now

    def take(self, now: int) -> bool:
        """One more; False when that is too many."""
        if not self._per_s:
            return True
        self._full = min(self._burst, self._full + (now - self._at) * self._per_s / SECOND)
        self._at = now
        if self._full < 1:
            return False
        self._full -= 1
        return True


class Crowd:
    """How many are open under each name; at most `most` of each (0: no limit)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: dict[str, int] = {}

    def enter(self, name: str) -> bool:
        """One more of this name; False when there are too many."""
        count = self.open.get(name, 0)
        if self.most and count >= self.most:
            return False
        self.open[name] = count + 1
        return True

    def leave(self, name: str) -> None:
        """One less."""
        count = self.open.get(name, 0) - 1
        if count > 0:
            self.open[name] = count
        else:
            self.open.pop(name, None)
