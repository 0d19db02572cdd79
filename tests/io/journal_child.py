"""A process that writes a real journal, for tests that kill it, trace it, or take its disk away.

    python journal_child.py run DIR [--segment-bytes N] [--retain-bytes N] [--batch N] [--batches N]
                                   [--ahead N] [--stepwise]
    python journal_child.py drive DIR [--segment-bytes N] [--backlog-bytes N]

`run` appends records for ever (or so many batches) and prints `ack N` for each new acknowledged number, after it is one.
`drive` obeys lines on stdin and answers each with one line of JSON: `write N` appends and commits N records and says how long
that took; `settle` waits for the writer; `later S` moves the clock on; `limit BYTES` sets RLIMIT_FSIZE; `close` ends.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time

import msgspec

from truetape.io.store.journal import Journal, Origin
from truetape.model.record import FRAME, TICK

MIB = 1 << 20


def content(number: int) -> tuple[object, ...]:
    """What record `number` is, in every journal that the tests write."""
    if number % 10 == 9:
        return (TICK, "pump", number)
    rng = random.Random(number)
    return (FRAME, "child-1", number, rng.randbytes(rng.randint(1, 60)))


class Child:
    """A journal, and a clock that can be moved on."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.ahead_ns = 0
        self.journal = Journal(
            args.dir,
            header=Origin(version="test", venues=["child"], config=b"{}", seed=7),
            checkpoint=self.checkpoint,
            clock=self.clock,
            segment_bytes=args.segment_bytes,
            retain_bytes=args.retain_bytes,
            backlog_bytes=args.backlog_bytes,
        )

    def clock(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def checkpoint(self) -> bytes:
        return b"next=%d" % self.journal.next_record

    def write(self, count: int) -> int:
        """Appends and commits; returns how many ns that took at most, for one call."""
        worst = 0
        for _ in range(count):
            record = content(self.journal.next_record)
            began = time.perf_counter_ns()
            self.journal.append(record, 60)
            worst = max(worst, time.perf_counter_ns() - began)
        began = time.perf_counter_ns()
        self.journal.commit(self.clock())
        return max(worst, time.perf_counter_ns() - began)


def run(child: Child, args: argparse.Namespace) -> None:
    """Never more than a little ahead of the disk, so that the journal is always at work."""
    journal, said = child.journal, child.journal.flushed_record
    print(f"ready {journal.next_record}", flush=True)
    done = 0
    while done != args.batches:
        child.write(args.batch)
        done += 1
        if args.stepwise or journal.status().backlog_bytes > args.ahead:
            journal.settle(60)
        if journal.flushed_record != said:
            said = journal.flushed_record
            os.write(1, b"ack %d\n" % said)
    journal.close(60)
    os.write(1, b"ack %d\n" % journal.flushed_record)


def drive(child: Child) -> None:
    for line in sys.stdin:
        verb, _, rest = line.strip().partition(" ")
        took = 0
        if verb == "write":
            took = child.write(int(rest))
        elif verb == "settle":
            assert child.journal.settle(60)
        elif verb == "later":
            child.ahead_ns += round(float(rest) * 1e9)
        elif verb == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(rest), resource.RLIM_INFINITY))
        elif verb == "close":
            child.journal.close(60)
        status = msgspec.to_builtins(child.journal.status())
        print(json.dumps({"took_ms": took / 1e6, **status}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["run", "drive"])
    parser.add_argument("dir")
    parser.add_argument("--segment-bytes", type=int, default=256 * MIB)
    parser.add_argument("--retain-bytes", type=int, default=0)
    parser.add_argument("--backlog-bytes", type=int, default=64 * MIB)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--batches", type=int, default=-1)
    parser.add_argument("--ahead", type=int, default=20_000)
    parser.add_argument("--stepwise", action="store_true")
    args = parser.parse_args()
    child = Child(args)
    if args.how == "run":
        run(child, args)
    else:
        drive(child)


if __name__ == "__main__":
    main()
