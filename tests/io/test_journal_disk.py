"""A disk that is full, fails, lies or is slow: live data flow on, the status says so, and the tape mends itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.io.journal_process import Driven, command, kept, segment_paths, traced
from truetape.io.store.reader import verify
from truetape.model.record import Hole

CALM_MS = 500.0
"""No call on the loop may take as long; two cores are shared with other tests. A stall would be seconds."""


def lost(holes: list[Hole]) -> int:
    return sum(hole.records for hole in holes)


def recovered(child: Driven) -> dict[str, Any]:
    """Moves the clock on beyond any backoff, and gives the writer the next commit to begin again."""
    child.tell("later 6")
    child.tell("write 0")
    return child.tell("settle")


def check(directory: Path, status: dict[str, Any], acked: list[int]) -> list[Hole]:
    """Every record that was acknowledged is there, and whatever is missing is in a hole that says how many."""
    numbers, holes = kept(directory)
    assert set(acked) <= set(numbers)
    assert len(numbers) + lost(holes) == status["next_record"]
    assert [hole.why.startswith("recorded: ") for hole in verify(directory).holes] == [True] * len(holes)
    assert (len(holes), lost(holes)) == (status["holes"], status["missing"])
    return holes


# -- full ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB; without the rights to mount one, the test of RLIMIT_FSIZE has to do."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(child: Driven) -> tuple[list[int], dict[str, Any]]:
    """Writes until the disk refuses; returns what was acknowledged until then."""
    for _ in range(500):
        status = child.write(200)
        if status["state"] != "ok":
            return list(range(status["flushed_record"] + 1)), status
    raise AssertionError("the disk is never full")


def full(child: Driven, directory: Path, stuff: Callable[[], object], free: Callable[[], object]) -> None:
    acked, status = fill(child)
    stuff()
    assert status["state"] == "full"
    assert "(errno " in status["reason"]
    assert str(directory) in status["reason"]
    for _ in range(50):
        assert child.tell("write 200")["took_ms"] < CALM_MS
    assert child.tell("settle")["flushed_record"] == acked[-1], "nothing is acknowledged while the disk is full"
    still = recovered(child)
    assert still["state"] == "full", "the writer tried again, in vain"
    assert child.tell("write 10")["took_ms"] < CALM_MS
    free()
    status = recovered(child)
    assert (status["state"], status["reason"], status["holes"]) == ("ok", "", 1)
    after = child.write(30)
    assert after["flushed_record"] == after["next_record"] - 1
    acked += range(status["next_record"], after["next_record"])
    closed = child.tell("close")
    (hole,) = check(directory, closed, acked)
    assert "(errno " in hole.why


def test_a_full_disk_stops_the_tape_and_nothing_else(tmpfs: Path) -> None:
    ballast = tmpfs / "ballast"
    ballast.write_bytes(bytes(500_000))

    def stuff() -> None:
        with ballast.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while file.write(bytes(4096)):
                pass

    with Driven(command("drive", tmpfs / "tape")) as child:
        full(child, tmpfs / "tape", stuff, ballast.unlink)


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    with Driven(command("drive", tmp_path)) as child:
        child.write(100)
        child.tell("limit 20000")
        first = child.write(2000)
        assert first["state"] == "full"
        assert "File too large (errno 27)" in first["reason"]
        child.tell("limit 0")
        acked = list(range(first["flushed_record"] + 1))
        assert acked == list(range(100))
        assert (tmp_path / "00000000.tape").stat().st_size < 20000, "what was not acknowledged is cut off"
        for _ in range(20):
            assert child.tell("write 100")["took_ms"] < CALM_MS
        assert recovered(child)["state"] == "full"
        child.tell(f"limit {1 << 30}")
        status = recovered(child)
        assert status["state"] == "ok"
        after = child.write(30)
        acked += range(status["next_record"], after["next_record"])
        check(tmp_path, child.tell("close"), acked)


def test_a_disk_that_is_full_from_the_start_does_not_keep_the_gateway_from_starting(tmp_path: Path) -> None:
    with Driven(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command("drive", tmp_path)]) as child:
        assert child.write(10)["state"] == "full"
        assert not [name for name in os.listdir(tmp_path) if name != "lock"], "nothing half made stays behind"
        assert recovered(child)["state"] == "full"


def test_the_writer_tries_again_after_a_quarter_second_and_then_ever_more_rarely(tmp_path: Path) -> None:
    with Driven(command("drive", tmp_path)) as child:
        child.write(10)
        child.tell("later 6")
        child.tell("limit 0")
        waits = [child.write(10)["retry_in_s"]]
        for _ in range(7):
            child.tell(f"later {waits[-1] - 0.05}")
            assert child.write(1)["retry_in_s"] < 0.06, "not before its time"
            child.tell("later 0.06")
            waits.append(child.write(1)["retry_in_s"])
        for wait, expected in zip(waits, [0.25, 0.5, 1, 2, 4, 5, 5, 5], strict=True):
            assert expected - 0.2 < wait <= expected


# -- failing ------------------------------------------------------------------------------------------------------------

FAULTS = {
    "fdatasync:error=EIO": ("failing", "Input/output error (errno 5)"),
    "fdatasync:error=ENOSPC": ("full", "No space left on device (errno 28)"),
    "write:error=EIO": ("failing", "Input/output error (errno 5)"),
    "write:error=ENOSPC": ("full", "No space left on device (errno 28)"),
    "write:error=EDQUOT": ("full", "Disk quota exceeded (errno 122)"),
    "write:retval=5": ("failing", "the end at"),
    "write:retval=0": ("failing", "wrote none"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_failed_write_ends_the_segment_and_is_never_acknowledged(tmp_path: Path, fault: str) -> None:
    state, why = FAULTS[fault]
    with Driven(traced(f"{fault}:when=3", segment_paths(tmp_path), command("drive", tmp_path))) as child:
        good = child.write(10)
        assert (good["state"], good["flushed_record"]) == ("ok", 9)
        bad = child.write(10)
        assert (bad["state"], bad["flushed_record"]) == (state, 9)
        assert why in bad["reason"]
        assert "00000000.tape" in bad["reason"]
        assert (tmp_path / "00000000.tape").stat().st_size == good["bytes"], "cut back to what is acknowledged"
        assert child.tell("write 500")["took_ms"] < CALM_MS
        status = recovered(child)
        assert (status["state"], status["segment"], status["missing"]) == ("ok", 1, 510)
        after = child.write(10)
        assert after["flushed_record"] == 529
        (hole,) = check(tmp_path, child.tell("close"), [*range(10), *range(520, 530)])
        assert hole.records == 510
        assert why in hole.why


@pytest.mark.parametrize("fault", [*FAULTS, "openat:error=EMFILE"])
def test_a_disk_that_fails_for_ever_leaves_no_rubbish_and_takes_no_acknowledgement_back(
    tmp_path: Path, fault: str
) -> None:
    when = 2 if fault.startswith("openat") else 3
    run = command("drive", tmp_path, "--segment-bytes", 500)
    with Driven(traced(f"{fault}:when={when}+", segment_paths(tmp_path), run)) as child:
        status = child.write(10)
        for _ in range(5):
            status = child.write(10) if status["state"] == "ok" else status
        acked = status["flushed_record"]
        for _ in range(5):
            child.write(10)
            assert recovered(child)["state"] in ("failing", "full")
        closed = child.tell("close")
        assert (closed["state"], closed["flushed_record"]) == ("closed", acked)
    assert sorted(os.listdir(tmp_path)) == ["00000000.tape", "lock"]
    assert kept(tmp_path) == (list(range(acked + 1)), [])
    assert acked >= 9


def test_a_failed_directory_sync_is_a_failed_segment(tmp_path: Path) -> None:
    run = command("drive", tmp_path, "--segment-bytes", 500)
    with Driven(traced("fsync:error=EIO:when=2", [tmp_path], run)) as child:
        child.write(20)
        child.tell("write 0")
        assert child.tell("settle")["state"] == "failing"
        assert recovered(child)["state"] == "ok"
        child.write(10)
        assert check(tmp_path, child.tell("close"), list(range(30))) == []


def test_what_could_not_even_be_cut_off_is_never_taken_for_acknowledged(tmp_path: Path) -> None:
    faults = "fdatasync:error=EIO:when=3 ftruncate:error=EIO"
    with Driven(traced(faults, segment_paths(tmp_path), command("drive", tmp_path))) as child:
        child.write(10)
        assert child.write(10)["flushed_record"] == 9
        child.write(10)
        assert recovered(child)["state"] == "ok"
        assert child.write(10)["flushed_record"] == 39
        child.tell("close")
    numbers, holes = kept(tmp_path)
    assert set(range(10)) | set(range(30, 40)) <= set(numbers)
    assert holes


def test_a_compression_that_finds_no_space_leaves_the_segment_plain(tmp_path: Path) -> None:
    packed = [tmp_path / "00000000.tape.zst.tmp"]
    run = command("drive", tmp_path, "--segment-bytes", 500)
    with Driven(traced("write:error=ENOSPC", packed, run)) as child:
        for _ in range(4):
            child.write(20)
        status = child.tell("settle")
        assert status["state"] == "ok"
        assert "00000000.tape was not compressed: [Errno 28]" in status["archive_trouble"]
        check(tmp_path, child.tell("close"), list(range(80)))
    assert (tmp_path / "00000000.tape").exists()
    assert not packed[0].exists()


# -- slow ---------------------------------------------------------------------------------------------------------------

SLOW_US = 3_000_000


@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_a_slow_disk_is_waited_for_by_nobody_and_the_status_says_so(tmp_path: Path, call: str) -> None:
    fault = f"{call}:delay_enter={SLOW_US}:when=3"
    with Driven(traced(fault, segment_paths(tmp_path), command("drive", tmp_path))) as child:
        child.write(10)
        child.tell("write 10")
        took = [child.tell("write 100")["took_ms"] for _ in range(50)]
        assert max(took) < CALM_MS
        status = child.tell("later 2")
        assert status["flushed_record"] == 9, "still waiting for the disk"
        assert status["backlog_bytes"] > 0
        assert "the disk is slow: a write has taken" in status["reason"]
        after = child.tell("settle")
        assert (after["state"], after["reason"], after["flushed_record"]) == ("ok", "", 5019)
        assert after["sync_ms_p99"] >= 2000
        assert check(tmp_path, child.tell("close"), list(range(5020))) == []


def test_a_backlog_that_overflows_becomes_a_hole_and_a_fresh_segment(tmp_path: Path) -> None:
    run = command("drive", tmp_path, "--backlog-bytes", 30_000)
    with Driven(traced(f"fdatasync:delay_enter={SLOW_US}:when=3", segment_paths(tmp_path), run)) as child:
        child.write(10)
        child.tell("write 10")
        took, status = [], {}
        for _ in range(20):
            status = child.tell("write 100")
            took.append(status["took_ms"])
            assert status["backlog_bytes"] <= 30_000
        assert max(took) < CALM_MS
        assert status["state"] == "failing"
        assert "the disk is too slow: over 30000 bytes wait for it" in status["reason"]
        after = child.tell("settle")
        acked = after["flushed_record"]
        assert acked < 2019
        child.tell("write 0")
        well = child.tell("settle")
        assert (well["state"], well["segment"], well["missing"]) == ("ok", 1, 2019 - acked)
        child.write(10)
        (hole,) = check(tmp_path, child.tell("close"), [*range(acked + 1), *range(2020, 2030)])
        assert "too slow" in hole.why


def test_a_backlog_that_overflows_on_a_disk_that_then_fails_is_one_exact_hole(tmp_path: Path) -> None:
    run = command("drive", tmp_path, "--backlog-bytes", 30_000)
    fault = f"fdatasync:error=EIO:delay_enter={SLOW_US}:when=3"
    with Driven(traced(fault, segment_paths(tmp_path), run)) as child:
        child.write(10)
        for _ in range(20):
            child.tell("write 100")
        assert child.tell("settle")["flushed_record"] == 9
        assert recovered(child)["state"] == "ok"
        child.write(10)
        (hole,) = check(tmp_path, child.tell("close"), [*range(10), *range(2010, 2020)])
        assert hole.records == 2000
