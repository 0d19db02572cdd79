"""How fast the tape is written and read, and what it costs the loop: `python tests/io/journal_bench.py [DIR]`.

Frames of 160 bytes, as a ticker's are. Writing: batches of 2,000 in a closed loop, at most 8 MiB ahead of the disk, until every
record is acknowledged, and then paced: 100,000 records/s committed every 10 ms, as the gateway does it.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import tempfile
import time

from truetape.io.store.journal import Journal, Origin
from truetape.io.store.reader import read_batches, verify
from truetape.model.record import FRAME

SIZE = 160
MIB = 1 << 20


def frames(count: int) -> list[bytes]:
    """Frames that compress about as market data do."""
    rng = random.Random(7)
    text = '{"e":"trade","E":%d,"s":"BTCUSDT","p":"%.2f","q":"%.5f","b":%d,"a":%d,"T":%d,"m":true}'
    made = (
        text % (rng.getrandbits(40), rng.uniform(60e3, 61e3), rng.random(), rng.getrandbits(33), rng.getrandbits(33), i)
        for i in range(count)
    )
    return [one.encode().ljust(SIZE) for one in made]


def opened(directory: str) -> Journal:
    """A journal with the defaults, but for small segments."""
    origin = Origin(version="bench", venues=["binance"])
    return Journal(
        directory, header=origin, checkpoint=lambda: b"state", clock=time.perf_counter_ns, segment_bytes=64 * MIB
    )


def write_flat_out(directory: str, count: int) -> None:
    """Appends, commits and waits for the last acknowledgement."""
    data, journal = frames(20_000), opened(directory)
    began = time.perf_counter()
    appending = 0
    for start in range(0, count, 2_000):
        t0 = time.perf_counter_ns()
        append = journal.append
        for frame in data[start % 20_000 : start % 20_000 + 2_000]:
            append((FRAME, "binance-1", t0, frame), SIZE)
        journal.commit(t0)
        appending += time.perf_counter_ns() - t0
        while journal.status().backlog_bytes > 8 * MIB:
            time.sleep(0.0005)
    while journal.flushed_record < count - 1:
        time.sleep(0.0005)
    took = time.perf_counter() - began
    status = journal.status()
    print(
        f"flat out: {count / took / 1e3:.0f}k records/s acknowledged, {count * SIZE / took / 1e6:.0f} MB/s of frames,"
    )
    print(
        f"          append + commit {appending / count:.0f} ns a record, write + fdatasync p99 {status.sync_ms_p99:.2f} ms"
    )
    began = time.perf_counter()
    while journal._writer.archive.pending:
        time.sleep(0.01)
    print(
        f"          {status.archive_bytes / 1e6:.0f} MB closed, {journal.status().archive_bytes / 1e6:.0f} MB", end=" "
    )
    print(f"compressed {time.perf_counter() - began:.2f} s later")
    assert journal.close(10)


def write_paced(directory: str, seconds: float, rate: int) -> None:
    """`rate` records a second, committed every 10 ms: what the loop pays, and how late the acknowledgement is."""
    data, journal = frames(rate // 100), opened(directory)
    spent, late = [], []
    due = time.perf_counter()
    for _ in range(int(seconds * 100)):
        t0 = time.perf_counter_ns()
        for frame in data:
            journal.append((FRAME, "binance-1", t0, frame), SIZE)
        t1 = time.perf_counter_ns()
        journal.commit(t1)
        t2 = time.perf_counter_ns()
        spent.append(((t1 - t0) / len(data), (t2 - t1) / 1e3))
        due += 0.01
        while journal.flushed_record < journal.next_record - 1:
            time.sleep(0.0001)
        late.append((time.perf_counter_ns() - t1) / 1e6)
        time.sleep(max(0.0, due - time.perf_counter()))
    assert journal.close(10)
    late.sort()
    print(f"paced {rate // 1000}k/s: append {statistics.median(a for a, _ in spent):.0f} ns,", end=" ")
    print(f"commit {statistics.median(b for _, b in spent):.1f} us, acknowledged", end=" ")
    print(f"p50 {late[len(late) // 2]:.2f} ms p99 {late[len(late) * 99 // 100]:.2f} ms after commit")


def read_all(directory: str, what: str) -> None:
    """Decodes everything, and verifies it."""
    began = time.perf_counter()
    count = sum(len(records) for _, records in read_batches(directory))
    took = time.perf_counter() - began
    print(f"read ({what}): {count / took / 1e6:.2f} million records/s, {count * SIZE / took / 1e6:.0f} MB/s", end="; ")
    began = time.perf_counter()
    found = verify(directory)
    assert found.sound and found.records == count
    print(f"verify: {count / (time.perf_counter() - began) / 1e6:.2f} million records/s")


def main() -> None:
    """Writes into a directory that is removed afterwards."""
    top = tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None)
    try:
        write_paced(top + "/paced", 5.0, 100_000)
        read_all(top + "/paced", "plain")
        write_flat_out(top + "/flat", 2_000_000)
        read_all(top + "/flat", "compressed")
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
