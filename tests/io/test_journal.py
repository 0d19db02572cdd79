"""Writing the tape: what is acknowledged, when segments begin, what is kept and what is dropped."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from zstandard import ZstdDecompressor

from tests.io.journal_maker import entry, record
from truetape.io.store.journal import Journal, JournalError, Origin
from truetape.io.store.reader import read, read_batches, segments, verify
from truetape.io.store.segment import crc, listed, packed_name, plain_name
from truetape.model.record import (
    COMMAND,
    FETCHED,
    FRAME,
    LOST,
    OPENED,
    SAMPLED,
    SENT,
    TICK,
    Command,
    Fetched,
    Frame,
    Header,
    Hole,
    Lost,
    Opened,
    Record,
    Sampled,
    Sent,
    Tick,
)

ORIGIN = Origin(version="0.1.0", venues=["kraken", "binance"], config=b"{}", seed=42)
WAIT = 30.0


@contextmanager
def opened(directory: Path, **options: int) -> Iterator[Journal]:
    """A journal whose checkpoints say how many records came before them."""
    journals: list[Journal] = []
    journal = Journal(
        directory,
        header=ORIGIN,
        checkpoint=lambda: b"%d" % journals[0].next_record,
        clock=time.monotonic_ns,
        **options,
    )
    journals.append(journal)
    try:
        yield journal
    finally:
        assert journal.close(WAIT)


def write(journal: Journal, count: int) -> None:
    """Appends so many records, commits, and waits until they are durable."""
    for _ in range(count):
        journal.append(entry(journal.next_record), 20)
    journal.commit(time.monotonic_ns())
    assert journal.settle(WAIT)


def records(directory: Path) -> list[Record]:
    return [part for part in read(directory) if not isinstance(part, Header)]


def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path) -> None:
    pairs: list[tuple[tuple[object, ...], Record]] = [
        ((FRAME, "kraken-1", 1, b"\x00\xff"), Frame("kraken-1", 1, b"\x00\xff")),
        ((OPENED, "kraken-1", 2, "wss://h/p"), Opened("kraken-1", 2, "wss://h/p")),
        ((SENT, "kraken-1", 3, b"{}"), Sent("kraken-1", 3, b"{}")),
        ((FETCHED, "binance", 4, "depth BTCUSDT", 200, b"[]"), Fetched("binance", 4, "depth BTCUSDT", 200, b"[]")),
        ((LOST, "kraken-1", 5, "silent", 1006, 2.5), Lost("kraken-1", 5, "silent", 1006, 2.5)),
        ((LOST, "kraken-1", 6, "refused"), Lost("kraken-1", 6, "refused")),
        ((TICK, "pump", 7), Tick("pump", 7)),
        ((SAMPLED, "pump", 8, "rss", 1.5e8), Sampled("pump", 8, "rss", 1.5e8)),
        ((COMMAND, "control", 9, b'{"do":"drain"}'), Command("control", 9, b'{"do":"drain"}')),
    ]
    with opened(tmp_path) as journal:
        for given, _ in pairs:
            journal.append(given, 30)
    assert records(tmp_path) == [expected for _, expected in pairs]


def test_nothing_is_acknowledged_before_it_is_on_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        assert journal.settle(WAIT)
        assert (journal.flushed_record, journal.next_record) == (-1, 0)
        journal.append(entry(0), 20)
        journal.append(entry(1), 20)
        assert journal.settle(WAIT)
        assert (journal.flushed_record, journal.next_record) == (-1, 2)
        journal.commit(5)
        assert journal.settle(WAIT)
        assert journal.flushed_record == 1
        assert records(tmp_path) == [record(0), record(1)]
    assert journal.status().state == "closed"


def test_a_commit_is_one_write_however_many_records(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 500)
        write(journal, 7)
    assert [len(batch) for _, batch in read_batches(tmp_path)] == [0, 500, 7]


def test_commits_that_wait_for_a_busy_disk_become_one_block(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(2000):
            journal.append(entry(number), 20)
            journal.commit(number)
    blocks = [len(batch) for _, batch in read_batches(tmp_path) if batch]
    assert sum(blocks) == 2000
    assert len(blocks) < 2000


def test_the_first_header_says_who_writes_and_has_no_state(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 1)
    header = next(iter(read(tmp_path)))
    assert isinstance(header, Header)
    assert (header.format, header.version, header.segment, header.first) == (1, "0.1.0", 0, 0)
    assert (header.seed, header.config, header.venues, header.state) == (42, b"{}", ["kraken", "binance"], b"")


def test_a_segment_that_is_full_is_followed_by_one_with_a_checkpoint_of_that_moment(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=2000) as journal:
        for _ in range(40):
            write(journal, 10)
    headers = [part for part in read(tmp_path) if isinstance(part, Header)]
    assert len(headers) > 3
    assert [header.segment for header in headers] == list(range(len(headers)))
    assert [header.state for header in headers[1:]] == [b"%d" % header.first for header in headers[1:]]
    assert records(tmp_path) == [record(number) for number in range(400)]


def test_a_checkpoint_larger_than_a_segment_does_not_begin_one_at_every_commit(tmp_path: Path) -> None:
    journal = Journal(
        tmp_path, header=ORIGIN, checkpoint=lambda: bytes(9000), clock=time.monotonic_ns, segment_bytes=250
    )
    write(journal, 40)
    for _ in range(10):
        journal.commit(1)
        assert journal.settle(WAIT)
    assert journal.close(WAIT)
    assert [segment.number for segment in segments(tmp_path)] == [0, 1]


def test_a_journal_that_is_opened_again_goes_on_counting_in_a_new_segment(tmp_path: Path) -> None:
    for start in (0, 5, 10):
        with opened(tmp_path) as journal:
            assert journal.next_record == start
            assert journal.flushed_record == start - 1
            write(journal, 5)
    assert records(tmp_path) == [record(number) for number in range(15)]
    headers = [part for part in read(tmp_path) if isinstance(part, Header)]
    assert [(header.first, header.state) for header in headers] == [(0, b""), (5, b""), (10, b"")]
    found = verify(tmp_path)
    assert (found.sound, found.repaired_tail) == (True, False)


def test_a_torn_tail_is_mended_when_opened_and_remembered(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 5)
        write(journal, 5)
    path = tmp_path / plain_name(0)
    os.truncate(path, path.stat().st_size - 3)
    assert verify(tmp_path).repaired_tail
    with opened(tmp_path) as journal:
        assert journal.repaired_tail
        assert journal.status().repaired_tail
        assert journal.next_record == 5
        write(journal, 5)
    found = verify(tmp_path)
    assert (found.sound, found.repaired_tail, found.records) == (True, True, 10)
    assert records(tmp_path) == [record(number) for number in range(10)]


def test_damage_that_is_not_torn_is_left_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 5)
        write(journal, 5)
    path = tmp_path / plain_name(0)
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)
    with opened(tmp_path) as journal:
        assert not journal.repaired_tail
        assert journal.next_record == 10, "the head of the damaged block still says how many it held"
        write(journal, 5)
    holes = [part for part in records(tmp_path) if isinstance(part, Hole)]
    assert [hole.records for hole in holes] == [5]
    found = verify(tmp_path)
    assert (found.sound, found.records, found.repaired_tail) == (False, 10, False)


@pytest.mark.parametrize("left", [b"", b"true", bytes(512)])
def test_a_segment_that_was_only_just_created_is_no_obstacle(tmp_path: Path, left: bytes) -> None:
    with opened(tmp_path) as journal:
        write(journal, 5)
    (tmp_path / plain_name(1)).write_bytes(left)
    with opened(tmp_path) as journal:
        assert journal.next_record == 5
        write(journal, 5)
    assert records(tmp_path) == [record(number) for number in range(10)]
    assert verify(tmp_path).sound
    assert [segment.number for segment in segments(tmp_path)] == [0, 1, 2]


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 1)
        with pytest.raises(
            JournalError, match=rf"journal {tmp_path}: expected no other writer, found process {os.getpid()}; "
        ):
            Journal(tmp_path, header=ORIGIN, checkpoint=bytes, clock=time.monotonic_ns)
        write(journal, 1)
    with opened(tmp_path) as journal:
        assert journal.next_record == 2


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        JournalError, match=r"expected a directory that can be written, found: .*; change \[journal\] dir"
    ):
        Journal(tmp_path / "file" / "tape", header=ORIGIN, checkpoint=bytes, clock=time.monotonic_ns)


def test_a_newer_format_at_the_end_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 1)
    path = tmp_path / plain_name(0)
    data = bytearray(path.read_bytes())
    data[8] = 2
    data[28:32] = crc(bytes(data[:28])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(JournalError, match="expected format 1, found 2; use the truetape that wrote it"):
        Journal(tmp_path, header=ORIGIN, checkpoint=bytes, clock=time.monotonic_ns)
    assert path.read_bytes() == data


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=300) as journal:
        journal.settle(WAIT)
        (tmp_path / plain_name(1)).write_bytes(b"somebody else's")
        write(journal, 30)
        journal.settle(WAIT)
        status = journal.status()
        assert status.state == "failing"
        assert "File exists (errno 17)" in status.reason
        journal.commit(time.monotonic_ns() + 10**9)
        journal.settle(WAIT)
        write(journal, 5)
        assert journal.status().state == "ok"
        assert journal.status().segment == 2
    assert (tmp_path / plain_name(1)).read_bytes() == b"somebody else's"


def test_a_record_that_cannot_be_encoded_becomes_a_hole_and_the_rest_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.append(entry(0), 20)
        journal.append((FRAME, "a-1", 1, object()), 20)
        journal.append((FRAME, "\ud800", 2, b""), 20)
        journal.append((FRAME, "a-1", 1 << 70, b""), 20)
        write(journal, 1)
        assert journal.flushed_record == 4
        assert (journal.status().holes, journal.status().missing) == (1, 3)
    found = records(tmp_path)
    assert [found[0], found[4]] == [record(0), record(4)]
    assert [part.records for part in found if isinstance(part, Hole)] == [1, 1, 1]


def test_a_long_burst_is_handed_over_without_waiting_for_a_commit(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for _ in range(6):
            journal.append((FRAME, "a-1", 1, bytes(1 << 20)), (1 << 20) + 1)
        assert journal.settle(WAIT)
        assert journal.flushed_record == 5


def test_one_record_larger_than_the_backlog_is_still_written(tmp_path: Path) -> None:
    with opened(tmp_path, backlog_bytes=1000) as journal:
        journal.append((FRAME, "a-1", 1, bytes(50_000)), 50_000)
        journal.commit(1)
    assert verify(tmp_path).records == 1


def settled_archive(journal: Journal, count: int) -> None:
    """Lets the writer compress until so many segments are."""
    for _ in range(1000):
        assert journal.settle(WAIT)
        if sum(segment.compressed for segment in segments(journal.path)) >= count:
            return
    raise AssertionError("nothing is compressed")


def test_closed_segments_are_compressed_and_read_the_same(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=3000) as journal:
        for _ in range(40):
            write(journal, 20)
        last = journal.status().segment
        settled_archive(journal, last)
        assert sorted(os.listdir(tmp_path)) == [*[packed_name(n) for n in range(last)], plain_name(last), "lock"]
        on_disk = sum((tmp_path / packed_name(n)).stat().st_size for n in range(last))
        assert journal.status().archive_bytes == on_disk
        assert journal.status().archive_trouble == ""
    assert records(tmp_path) == [record(number) for number in range(800)]


def test_a_compressed_segment_is_what_zstd_makes_of_the_plain_one(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for _ in range(3):
            write(journal, 1000)
            journal.append((FRAME, "a-1", 1, os.urandom(1 << 20)), 1 << 20)
        write(journal, 1)
    plain = (tmp_path / plain_name(0)).read_bytes()
    with opened(tmp_path) as journal:
        settled_archive(journal, 1)
    packed = tmp_path / packed_name(0)
    try:
        out = subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True).stdout
    except FileNotFoundError:
        with packed.open("rb") as file:
            out = ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    assert out == plain


def test_what_a_crash_left_of_a_compression_is_done_again(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 100)
    (tmp_path / (packed_name(0) + ".tmp")).write_bytes(b"half")
    (tmp_path / packed_name(0)).write_bytes(b"complete, but the plain one was not yet removed")
    with opened(tmp_path) as journal:
        assert not (tmp_path / (packed_name(0) + ".tmp")).exists()
        for _ in range(1000):
            journal.settle(WAIT)
            if not (tmp_path / plain_name(0)).exists():
                break
    assert (tmp_path / packed_name(0)).exists()
    assert records(tmp_path) == [record(number) for number in range(100)]


def test_retention_removes_the_oldest_closed_segments_and_never_the_open_one(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=4000, retain_bytes=9000) as journal:
        for _ in range(100):
            write(journal, 20)
            held = sum(segment.bytes for segment in segments(tmp_path))
            assert held <= 9000 + 4000
            assert segments(tmp_path)[-1].number == journal.status().segment
    found = verify(tmp_path)
    assert found.sound
    kept = records(tmp_path)
    assert kept == [record(number) for number in range(2000 - len(kept), 2000)]
    assert 0 < len(kept) < 2000
    with opened(tmp_path, retain_bytes=1) as journal:
        assert journal.next_record == 2000
        assert journal.settle(WAIT)
        assert [segment.number for segment in segments(tmp_path)] == [journal.status().segment]
        write(journal, 1)
    assert records(tmp_path) == [record(2000)]


def test_a_segment_that_cannot_be_compressed_stays_plain_and_the_tape_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, 10)
    (tmp_path / (packed_name(0) + ".tmp")).mkdir()
    os.rename(tmp_path / (packed_name(0) + ".tmp"), tmp_path / packed_name(0))
    with opened(tmp_path) as journal:
        for _ in range(1000):
            journal.settle(WAIT)
            if journal.status().archive_trouble:
                break
        assert "00000000.tape was not compressed: [Errno 21]" in journal.status().archive_trouble
        write(journal, 10)
        assert journal.status().state == "ok"
    assert records(tmp_path) == [record(number) for number in range(20)]


def test_files_are_for_their_owner_and_group_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "tape") as journal:
        write(journal, 1)
    for name in os.listdir(tmp_path / "a" / "tape"):
        assert stat.S_IMODE((tmp_path / "a" / "tape" / name).stat().st_mode) & 0o007 == 0


def test_a_journal_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=3000, retain_bytes=20_000) as journal:
        for _ in range(60):
            write(journal, 15)
            for number in range(journal.next_record, journal.next_record + 15):
                journal.append(entry(number), 20)
            journal.commit(1)
            found = [part.now for part in records(tmp_path)]
            assert found == list(range(found[0], found[0] + len(found)))


def test_after_close_nothing_more_is_taken_and_closing_again_is_fine(tmp_path: Path) -> None:
    journal = Journal(tmp_path, header=ORIGIN, checkpoint=bytes, clock=time.monotonic_ns)
    write(journal, 3)
    assert journal.close(WAIT)
    assert journal.close(WAIT)
    journal.append(entry(3), 20)
    journal.commit(9)
    assert (journal.status().state, journal.flushed_record) == ("closed", 2)
    assert not journal.close(WAIT), "a record was left"
    assert records(tmp_path) == [record(number) for number in range(3)]


def test_appending_costs_the_loop_next_to_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        best = 1e9
        for _ in range(20):
            one = entry(1)
            began = time.perf_counter_ns()
            for _ in range(1000):
                journal.append(one, 20)
            best = min(best, (time.perf_counter_ns() - began) / 1000)
            journal.commit(1)
            assert journal.settle(WAIT)
    assert best < 500, "a list append and an addition; the bench says how much exactly"


def test_a_checkpoint_larger_than_a_segment_does_not_begin_one_at_each_commit(tmp_path: Path) -> None:
    state = b"s" * 50_000
    journal = Journal(tmp_path, header=ORIGIN, checkpoint=lambda: state, clock=time.monotonic_ns, segment_bytes=4096)
    for n in range(200):
        journal.append((FRAME, "a", n, b"x" * 100), 100)
        journal.commit(time.monotonic_ns())
        assert journal.settle(WAIT)
    assert journal.close(WAIT)
    # 200 records of a little over 100 bytes, each in a block of its own: about nine segments of 4 KiB of records, however large their states
    assert len(segments(tmp_path)) < 20


def test_no_segment_is_missed_while_it_changes_its_name(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / plain_name(number)).write_bytes(b"x")
    names = [tmp_path / plain_name(3), tmp_path / packed_name(3)]
    rounds = 3_000
    both = threading.Barrier(2)

    def rename() -> None:  # as compression does: the new name is there before the old one goes
        for at in range(rounds):
            old, new = names[at % 2], names[1 - at % 2]
            try:
                both.wait(10)
            except threading.BrokenBarrierError:
                return
            os.link(old, new)
            os.unlink(old)

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        for _ in range(rounds):
            both.wait(10)
            assert [segment.number for segment in listed(os.fspath(tmp_path))] == [0, 1, 2, 3, 4]
    finally:
        both.abort()
        thread.join()
