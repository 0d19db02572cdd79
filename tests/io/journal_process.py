"""The child program of the journal's tests, started, spoken to, traced and killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.io.journal_child import content
from truetape.io.store.reader import read, verify
from truetape.io.store.segment import plain_name
from truetape.model.record import Header, Hole, Record

CHILD = Path(__file__).with_name("journal_child.py")
ROOT = CHILD.parent.parent.parent
RECORD_KINDS = {"Frame": 0, "Tick": 5}


def command(how: str, directory: Path, *options: object) -> list[str]:
    return [sys.executable, str(CHILD), how, str(directory), *map(str, options)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def traced(faults: str, paths: Sequence[Path], run: list[str]) -> list[str]:
    """The same command under strace, with faults (blank between them) in the system calls that concern these files; all, if
    none is named."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    injects = [word for fault in faults.split() for word in ("-e", f"inject={fault}")]
    calls = ",".join(fault.partition(":")[0] for fault in faults.split())
    files = [word for path in paths for word in ("-P", str(path))]
    return ["strace", "-f", "-qq", "-o", "/dev/null", *files, "-e", f"trace={calls}", *injects, *run]


def segment_paths(directory: Path, count: int = 40) -> list[Path]:
    return [directory / plain_name(number) for number in range(count)]


class Driven:
    """A child that obeys: `tell` a verb, get its status."""

    def __init__(self, run: list[str]) -> None:
        self.process = subprocess.Popen(
            run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def __enter__(self) -> Driven:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, verb: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(verb, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the child died"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def write(self, count: int) -> dict[str, Any]:
        """Appends, commits and waits for the writer; the answer is that of the wait."""
        self.tell(f"write {count}")
        return self.tell("settle")


def killed(run: list[str], acks: int) -> int:
    """Starts a child, kills it after so many lines of it, and returns the last number that it acknowledged."""
    process = subprocess.Popen(run, stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    said = b""
    for _ in range(acks):
        said += process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.read()
    process.stdout.close()
    process.wait()
    return last_ack(said)


def last_ack(said: bytes) -> int:
    """The last `ack N`; without one, what `ready N` says was there before; -1 without either. Half a line says nothing."""
    last = -1
    for line in said.split(b"\n")[:-1]:
        word, number = line.split()
        last = int(number) - (word == b"ready")
    return last


def plain(record: Record) -> tuple[object, ...]:
    """A record in its array form."""
    kind = RECORD_KINDS[type(record).__name__]
    return (kind, *(getattr(record, field) for field in record.__struct_fields__))


def kept(directory: Path) -> tuple[list[int], list[Hole]]:
    """The numbers of the records that a child left, each checked against what it must be, and the holes between them."""
    numbers: list[int] = []
    holes = []
    for part in read(directory):
        match part:
            case Header():
                assert part.state in (b"", b"next=%d" % part.first, b"next=%d" % (part.first + 1))
            case Hole():
                holes.append(part)
            case _:
                assert plain(part) == content(part.now)
                numbers.append(part.now)
    assert numbers == sorted(set(numbers))
    return numbers, holes


def prefix(directory: Path, acked: int) -> int:
    """Asserts that a killed child lost nothing that it had acknowledged; returns how many records there are."""
    numbers, holes = kept(directory)
    assert holes == []
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > acked, f"record {acked} was acknowledged"
    assert verify(directory).sound
    return len(numbers)
