"""What every receiver prints: one JSON line with the same fields, whatever language it is written in.

Receivers call `begin` when the subscription is sent and `finish` after the last frame; the CPU in between is their
own, of all their threads, user and system.
"""

import argparse
import json
import time
from pathlib import Path


def arguments(purpose: str) -> argparse.Namespace:
    """The options that every receiver takes."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--url", required=True, help="where the sender listens")
    parser.add_argument("--frames", type=int, required=True, help="frames to receive before reporting")
    parser.add_argument("--levels", type=int, default=5, help="levels per side in the frames")
    parser.add_argument("--symbols", type=int, default=10, help="symbols in the frames: see bench.frames.symbols")
    parser.add_argument("--delay", action="store_true", help="also keep every delay from socket to consumer")
    return parser.parse_args()


class Account:
    """CPU and wall time between the subscription and the last frame."""

    def __init__(self) -> None:
        self.cpu_s = time.process_time()
        self.wall_s = time.perf_counter()

    def finish(self, frames: int, messages: int, delays_ns: list[int], dropped: int = 0) -> None:
        """Print the line. `messages` reached the consumer out of `frames` that were due."""
        cpu_s = time.process_time() - self.cpu_s
        line = {
            "messages": messages,
            "lost": frames - messages,
            "dropped": dropped,
            "cpu_s": round(cpu_s, 6),
            "seconds": round(time.perf_counter() - self.wall_s, 6),
            "msg_per_cpu_s": round(messages / cpu_s) if cpu_s else 0,
            "delay_us": percentiles_us(delays_ns),
            "rss_mb": peak_rss_mb(),
        }
        print(json.dumps(line), flush=True)


def percentiles_us(delays_ns: list[int]) -> dict[str, float] | None:
    """p50, p99, p999 and max in microseconds; None when no delay was kept."""
    if not delays_ns:
        return None
    ordered = sorted(delays_ns)
    last = len(ordered) - 1
    ranks = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: round(ordered[min(last, int(rank * len(ordered)))] / 1000, 1) for name, rank in ranks.items()}


def peak_rss_mb() -> float:
    """The highest resident size of this process so far. Not `ru_maxrss`, which a child inherits from its parent."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0
