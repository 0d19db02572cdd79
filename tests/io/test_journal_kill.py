"""A writer that is killed, at any moment and at each system call, loses nothing that it acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.io.journal_process import command, environment, killed, last_ack, prefix, segment_paths, traced
from truetape.io.store.reader import JournalError, segments
from truetape.io.store.recover import recover
from truetape.io.store.segment import packed_name

SMALL = ("--segment-bytes", 6000)


def kill_again_and_again(top: Path, times: int, seed: int) -> None:
    """Each child goes on where the one before was killed; every tenth starts afresh."""
    rng = random.Random(seed)
    print(f"seed={seed}")
    directory = top
    for trial in range(times):
        if trial % 10 == 0:
            directory = top / str(trial)
        options = ("--batch", rng.randint(1, 60), "--ahead", rng.choice([500, 5_000, 50_000]))
        acked = killed(command("run", directory, *SMALL, *options), rng.choice([0, 1, 2, rng.randint(3, 80)]))
        try:
            segments(directory)
        except JournalError:
            assert acked == -1, "killed before there was a segment"
            continue
        count = prefix(directory, acked)
        if trial % 3 == 0:
            recover(str(directory))
            assert prefix(directory, acked) == count, "what was repaired reads the same"


def test_kill_9_at_random_moments_loses_nothing_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 40, random.SystemRandom().randrange(2**32))


@pytest.mark.soak
def test_a_thousand_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    if not os.environ.get("TRUETAPE_SOAK"):
        pytest.skip("set TRUETAPE_SOAK=1: this takes minutes")
    kill_again_and_again(tmp_path, 1000, random.SystemRandom().randrange(2**32))


def killed_at(directory: Path, call: str, number: int, paths: list[Path]) -> bool:
    """Runs a child that is killed on entering the Nth such call of its writer; whether it got that far. Then goes on twice."""
    run = command("run", directory, *SMALL, "--batches", 40, "--stepwise")
    done = subprocess.run(
        traced(f"{call}:signal=KILL:when={number}", paths, run), stdout=subprocess.PIPE, env=environment(), timeout=60
    )
    acked = last_ack(done.stdout)
    if done.returncode == 0:
        assert prefix(directory, acked) == 800
        return False
    count = prefix(directory, acked) if segments(directory) else 0
    assert count <= acked + 21, "never more than one batch ahead of what was said"
    again = subprocess.run(
        command("run", directory, *SMALL, "--batches", 3, "--stepwise"), stdout=subprocess.PIPE, env=environment()
    )
    assert again.returncode == 0
    assert prefix(directory, last_ack(again.stdout)) == count + 60
    return True


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "rename", "unlink", "openat"])
def test_killed_at_each_system_call_nothing_acknowledged_is_lost(tmp_path: Path, call: str) -> None:
    reached = 0
    steps = {"write": 40, "fdatasync": 40, "openat": 16}.get(call, 9)
    for number in range(1, steps + 1):
        directory = tmp_path / str(number)
        paths = segment_paths(directory)
        if call in ("rename", "unlink", "openat"):
            paths += [directory / packed_name(n) for n in range(40)]
            paths += [directory / (packed_name(n) + ".tmp") for n in range(40)]
        if call == "fsync":
            paths = []
        try:
            reached += killed_at(directory, call, number, paths)
        except JournalError as error:
            assert "found none" in str(error), "killed before there was a segment"
            reached += 1
    expected = {"write": 40, "fdatasync": 40, "openat": 16}.get(call, 5)
    assert reached >= expected


@pytest.mark.parametrize("call", ["ftruncate", "fdatasync"])
def test_killed_while_a_torn_tail_is_mended_it_is_mended_the_next_time(tmp_path: Path, call: str) -> None:
    run = command("run", tmp_path, "--batches", 5, "--stepwise")
    subprocess.run(run, stdout=subprocess.PIPE, env=environment(), check=True)
    (path,) = segment_paths(tmp_path, 1)
    os.truncate(path, path.stat().st_size - 7)
    trace = traced(f"{call}:signal=KILL:when=1", [path], run)
    done = subprocess.run(trace, stdout=subprocess.PIPE, env=environment(), timeout=60)
    assert done.returncode != 0
    assert prefix(tmp_path, 79) == 80
    again = subprocess.run(run, stdout=subprocess.PIPE, env=environment(), check=True)
    assert prefix(tmp_path, last_ack(again.stdout)) == 180
