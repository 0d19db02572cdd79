"""Two network namespaces of a test's own, joined by a cable: packets are dropped in the far one, never in the host's own chains."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType

NEAR, FAR = "10.213.77.1", "10.213.77.2"


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)


def refused() -> str:
    """Why there can be none here; empty where there can."""
    missing = [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    return "" if os.geteuid() == 0 else "needs root, for network namespaces"


class Cable:
    """The far namespace, and the cable to it. `drop` and `mend` are said in the far one's chains. Leaving the `with` removes all of it."""

    def __init__(self) -> None:
        self.name = f"truetape-{os.getpid()}"
        self.near, self.far = f"tt{os.getpid()}a", f"tt{os.getpid()}b"

    def __enter__(self) -> Cable:
        self._do("ip", "netns", "add", self.name)
        try:
            self._do("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.name)
            self._do("ip", "addr", "add", f"{NEAR}/30", "dev", self.near)
            self._do("ip", "link", "set", self.near, "up")
            self._do("ip", "-n", self.name, "addr", "add", f"{FAR}/30", "dev", self.far)
            self._do("ip", "-n", self.name, "link", "set", self.far, "up")
            self._do("ip", "-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("ip", "netns", "del", self.name)
        _run("ip", "link", "del", self.near)

    def command(self, words: list[str]) -> list[str]:
        """The command, run behind the cable."""
        return ["ip", "netns", "exec", self.name, *words]

    def rule(self, port: int, *, inbound: bool, outbound: bool) -> list[list[str]]:
        """The commands that drop what goes to this port of the far side (our outbound) or comes from it (our inbound)."""
        rows = []
        if outbound:
            rows.append(["INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"])
        if inbound:
            rows.append(["OUTPUT", "-p", "tcp", "--sport", str(port), "-j", "DROP"])
        return [self.command(["iptables", "-w", "5", "-I", *row]) for row in rows]

    def _do(self, *words: str) -> None:
        done = _run(*words)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
