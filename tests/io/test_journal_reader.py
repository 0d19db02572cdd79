"""Reading the tape: whatever happens to the bytes, nothing wrong is returned and whatever is missing is named."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.io.journal_maker import JOURNAL, contents, entry, honest, make, record, split
from truetape.io.store.reader import (
    Batch,
    Flaw,
    Found,
    JournalError,
    read,
    read_batches,
    segment_at,
    segments,
    verify,
    walk,
)
from truetape.io.store.recover import recover
from truetape.io.store.segment import FORMAT, crc, packed_name, plain_name
from truetape.io.store.squeeze import PIECE, squeeze
from truetape.io.store.tape import Tape
from truetape.model.record import FRAME, Frame, Header

PLAN = [[2, 3, 1], [1, 4], [2, 2, 3]]


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    written = make(tmp_path, PLAN, packed=[0])
    parts = list(read(tmp_path))
    headers = [part for part in parts if isinstance(part, Header)]
    assert [(header.segment, header.first, header.state) for header in headers] == [
        (0, 0, b"0"),
        (1, 6, b"6"),
        (2, 11, b"11"),
    ]
    assert [part for part in parts if not isinstance(part, Header)] == [record(number) for number in range(written)]


def test_batches_are_headers_without_records_or_records_without_a_header(tmp_path: Path) -> None:
    make(tmp_path, [[2, 1], [1]])
    shape = [(header is not None, len(records)) for header, records in read_batches(tmp_path)]
    assert shape == [(True, 0), (False, 2), (False, 1), (True, 0), (False, 1)]


def test_reading_may_begin_at_any_segment(tmp_path: Path) -> None:
    make(tmp_path, PLAN)
    parts = list(read(tmp_path, start=1))
    assert isinstance(parts[0], Header)
    assert parts[0].state == b"6"
    assert parts[1:6] == [record(number) for number in range(6, 11)]
    with pytest.raises(JournalError, match="expected segment 3 or later"):
        list(read(tmp_path, start=3))


def test_the_segment_for_a_time_is_the_last_that_began_by_then(tmp_path: Path) -> None:
    make(tmp_path, PLAN, packed=[1])
    assert [segment_at(tmp_path, now) for now in (-5, 0, 5, 6, 10, 11, 99)] == [0, 0, 0, 1, 1, 2, 2]


def test_verify_says_what_a_sound_journal_holds(tmp_path: Path) -> None:
    written = make(tmp_path, PLAN, packed=[0, 1])
    steps: list[tuple[int, int]] = []
    found = verify(tmp_path, lambda done, total: steps.append((done, total)))
    assert (found.segments, found.records, found.first_t, found.last_t) == (3, written, 0, written - 1)
    assert (found.repaired_tail, found.holes, found.sound) == (False, [], True)
    assert found.__struct_fields__ == ("segments", "records", "first_t", "last_t", "repaired_tail", "holes")
    assert Found.__struct_fields__ == ("file", "offset", "why")
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("what", ["missing", "file", "empty", "strangers"])
def test_what_is_no_journal_is_a_clear_error(tmp_path: Path, what: str) -> None:
    path = tmp_path / "tape"
    if what == "file":
        path.write_text("hello")
    elif what != "missing":
        path.mkdir()
    if what == "strangers":
        (path / "00000000.tape.zst.tmp").write_bytes(b"x")
        (path / "notes.tape").write_bytes(b"x")
    for look in (segments, verify, lambda where: list(read(where))):
        with pytest.raises(JournalError, match=rf"journal {path}: expected .*found .*; \w+"):
            look(path)


# -- every truncation ---------------------------------------------------------------------------------------------------


def test_every_truncation_of_the_last_segment_leaves_an_exact_prefix(tmp_path: Path) -> None:
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    written = make(whole, PLAN, packed=[0])
    last = plain_name(len(PLAN) - 1)
    data = (whole / last).read_bytes()
    edges = {0, 32}
    for part in split(data)[1:]:
        edges.add(max(edges) + len(part))
    for length in range(len(data)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        os.truncate(copy / last, length)
        assert honest(copy, written) == []
        assert verify(copy).repaired_tail == (length not in edges)
        found = recover(str(copy))
        assert found.repaired == (length not in edges)
        size = (copy / last).stat().st_size
        assert size == max(edge for edge in edges if edge <= length)
        assert recover(str(copy)) == found._replace(repaired=False), "a second recovery finds nothing to do"
        records, _ = contents(copy)
        assert found.next == len(records)
        assert (copy / last).stat().st_size == size


@pytest.mark.parametrize("packed", [(), (0, 1)])
def test_every_truncation_of_an_earlier_segment_is_a_hole(tmp_path: Path, packed: tuple[int, ...]) -> None:
    written = make(tmp_path, PLAN, packed=packed)
    name = (packed_name if packed else plain_name)(1)
    data = (tmp_path / name).read_bytes()
    for length in range(len(data)):
        (tmp_path / name).write_bytes(data[:length])
        holes = honest(tmp_path, written)
        header_only = not packed and length >= len(b"".join(split(data)[:2]))
        assert holes or header_only
        assert sum(hole.records for hole in holes) == written - len(contents(tmp_path)[0])
        assert not verify(tmp_path).repaired_tail
        recover(str(tmp_path))
        assert (tmp_path / name).stat().st_size == length, "only the last segment is ever mended"


# -- every bit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", range(len(PLAN)))
def test_every_flipped_bit_is_named_and_nothing_wrong_is_returned(tmp_path: Path, which: int) -> None:
    written = make(tmp_path, PLAN, packed=[0])
    flip_all(tmp_path, segments(tmp_path)[which].path, written)


def flip_all(directory: Path, path: str, written: int) -> None:
    """Every bit of one file, one at a time."""
    compressed = path.endswith(".zst")
    with open(path, "r+b", buffering=0) as file:
        data = file.read()
        for at in range(len(data)):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit]), at)
                holes = honest(directory, written)
                assert holes or (compressed and len(contents(directory)[0]) == written)
                assert all(os.path.basename(path) in hole.why for hole in holes)
                if at % 7 == bit:
                    assert not recover(str(directory)).repaired, "a flipped bit is no torn tail"
            os.pwrite(file.fileno(), data[at : at + 1], at)
        assert os.fstat(file.fileno()).st_size == len(data)
    assert honest(directory, written) == []


@pytest.mark.soak
def test_every_flipped_bit_of_64_kib_is_named(tmp_path: Path) -> None:
    if not os.environ.get("TRUETAPE_SOAK"):
        pytest.skip("set TRUETAPE_SOAK=1: this takes minutes")
    written = make(tmp_path, [[250] * 17])
    expected = [record(number) for number in range(written)]
    path = tmp_path / plain_name(0)
    data = path.read_bytes()
    assert len(data) > 64 << 10
    with path.open("r+b", buffering=0) as file:
        for at in range(len(data)):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit]), at)
                flaws = 0
                for part in walk(tmp_path):
                    if isinstance(part, Batch):
                        assert part.records == expected[part.first : part.first + len(part.records)]
                    elif isinstance(part, Flaw):
                        flaws += 1
                        assert not part.torn
                assert flaws
            os.pwrite(file.fileno(), data[at : at + 1], at)


# -- blocks and files out of their place ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", range(1, 6))
def test_a_dropped_block_is_a_hole_of_its_size(tmp_path: Path, which: int) -> None:
    written = make(tmp_path, [[1, 2, 3, 4], [1]])
    path = tmp_path / plain_name(0)
    parts = split(path.read_bytes())
    path.write_bytes(b"".join(parts[:which] + parts[which + 1 :]))
    holes = honest(tmp_path, written)
    assert [hole.records for hole in holes] == [[0, 1, 2, 3, 4][which - 1]]


@pytest.mark.parametrize("which", range(1, 6))
def test_a_repeated_block_is_named_and_not_returned_again(tmp_path: Path, which: int) -> None:
    written = make(tmp_path, [[1, 2, 3, 4], [1]])
    path = tmp_path / plain_name(0)
    parts = split(path.read_bytes())
    path.write_bytes(b"".join([*parts[:which], parts[which], *parts[which:]]))
    assert [hole.records for hole in honest(tmp_path, written)] == [0]
    assert len(contents(tmp_path)[0]) == written


@pytest.mark.parametrize("which", range(1, 5))
def test_swapped_blocks_are_named(tmp_path: Path, which: int) -> None:
    written = make(tmp_path, [[1, 2, 3, 4], [1]])
    path = tmp_path / plain_name(0)
    parts = split(path.read_bytes())
    parts[which], parts[which + 1] = parts[which + 1], parts[which]
    path.write_bytes(b"".join(parts))
    assert honest(tmp_path, written)


def test_a_block_that_follows_another_than_the_one_written_is_named(tmp_path: Path) -> None:
    written = make(tmp_path / "a", [[2, 2, 2]])
    make(tmp_path / "b", [[1, 1, 2, 2]])
    ours, theirs = (split((tmp_path / name / plain_name(0)).read_bytes()) for name in "ab")
    (tmp_path / "a" / plain_name(0)).write_bytes(b"".join([*ours[:3], theirs[4], ours[4]]))
    holes = honest(tmp_path / "a", written)
    assert ["not the one that was written" in hole.why for hole in holes] == [True, True]
    assert len(contents(tmp_path / "a")[0]) == written


def test_a_missing_middle_segment_is_a_hole_that_names_it(tmp_path: Path) -> None:
    written = make(tmp_path, PLAN, packed=[0])
    (tmp_path / plain_name(1)).unlink()
    (hole,) = honest(tmp_path, written)
    assert hole.records == 5
    assert plain_name(1) in hole.why


def test_a_journal_whose_first_segments_are_gone_is_sound(tmp_path: Path) -> None:
    make(tmp_path, PLAN)
    (tmp_path / plain_name(0)).unlink()
    found = verify(tmp_path)
    assert (found.sound, found.records, found.first_t) == (True, 12, 6)


def test_swapped_files_and_files_of_another_journal_are_named(tmp_path: Path) -> None:
    written = make(tmp_path / "ours", PLAN)
    make(tmp_path / "theirs", PLAN, journal=JOURNAL + 1)
    shutil.copy(tmp_path / "theirs" / plain_name(1), tmp_path / "ours" / plain_name(1))
    (hole,) = honest(tmp_path / "ours", written)
    assert "belongs to another journal" in hole.why
    os.replace(tmp_path / "ours" / plain_name(2), tmp_path / "ours" / plain_name(1))
    assert ["renamed" in hole.why for hole in honest(tmp_path / "ours", written)] == [True]


def test_a_venue_cannot_smuggle_a_block_in(tmp_path: Path) -> None:
    make(tmp_path / "evil", [[1, 9]], journal=JOURNAL + 1)
    block = split((tmp_path / "evil" / plain_name(0)).read_bytes())[3]
    tape = Tape(str(tmp_path), 0, JOURNAL, lambda: 0)
    tape.begin(0, Header(format=FORMAT, version="test", segment=0, first=0, now=0), None)
    tape.write([(FRAME, "a-1", 0, block)], 0)
    tape.write([(FRAME, "a-1", 1, b"good")], 1)
    tape.close()
    path = tmp_path / plain_name(0)
    data = bytearray(path.read_bytes())
    data[len(b"".join(split(bytes(data))[:2])) + 5] ^= 1  # the head of the block that holds theirs
    path.write_bytes(data)
    records, holes = contents(tmp_path)
    assert records == [Frame("a-1", 1, b"good")]
    assert [hole.records for hole in holes] == [1]


def test_a_newer_format_is_named_and_nothing_is_guessed(tmp_path: Path) -> None:
    written = make(tmp_path, PLAN)
    path = tmp_path / plain_name(1)
    data = path.read_bytes()
    newer = bytearray(data[:32])
    newer[8] = 2
    newer[28:32] = crc(bytes(newer[:28])).to_bytes(4, "little")
    path.write_bytes(bytes(newer) + data[32:])
    (hole,) = honest(tmp_path, written)
    assert "written by a newer truetape" in hole.why
    assert hole.records == 5


def test_a_record_that_does_not_decode_costs_only_itself(tmp_path: Path) -> None:
    tape = Tape(str(tmp_path), 0, JOURNAL, lambda: 0)
    tape.begin(0, Header(format=FORMAT, version="test", segment=0, first=0, now=0), None)
    tape.write([entry(0), (99, "future", 1, "kind"), (FRAME, "a-1", 2, "text for bytes"), entry(3)], 0)
    tape.close()
    records, holes = contents(tmp_path)
    assert records == [record(0), record(3)]
    assert [hole.records for hole in holes] == [1, 1]
    assert "record 1 does not decode" in holes[0].why


# -- the start of a segment lost --------------------------------------------------------------------------------------------


def test_a_lost_start_of_a_segment_costs_only_what_it_held(tmp_path: Path) -> None:
    written = make(tmp_path, [[2, 2], [3, 3], [1]])
    path = tmp_path / plain_name(1)
    data = path.read_bytes()
    start = len(b"".join(split(data)[:2]))
    path.write_bytes(bytes(start) + data[start:])
    holes = honest(tmp_path, written)
    assert holes
    assert len(contents(tmp_path)[0]) == written, "the journal's other segments say whose blocks these are"


def test_a_first_sector_of_zeros_is_torn_only_if_nothing_follows(tmp_path: Path) -> None:
    written = make(tmp_path / "new", [[2, 2], []])
    path = tmp_path / "new" / plain_name(1)
    path.write_bytes(bytes(path.stat().st_size))
    assert honest(tmp_path / "new", written) == []
    assert recover(str(tmp_path / "new")).repaired
    assert path.stat().st_size == 0
    written = make(tmp_path / "old", [[100] * 3])
    path = tmp_path / "old" / plain_name(0)
    data = path.read_bytes()
    path.write_bytes(bytes(512) + data[512:])
    assert honest(tmp_path / "old", written)
    assert not recover(str(tmp_path / "old")).repaired
    assert path.read_bytes() == bytes(512) + data[512:]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sectors_that_were_never_written_are_a_torn_tail(tmp_path: Path, seed: int) -> None:
    """A power cut leaves any of the sectors of the last write unwritten; all before it is there."""
    shutil.rmtree(tmp_path / "t", ignore_errors=True)
    written = make(tmp_path / "t", [[5], [20, 200]])
    path = tmp_path / "t" / plain_name(1)
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    last = len(data) - len(split(bytes(data))[-1])
    sectors = range(last // 512, (len(data) + 511) // 512)
    for sector in rng.sample(sectors, rng.randint(1, len(sectors))):
        start, end = max(last, sector * 512), min(len(data), sector * 512 + 512)
        if end - start >= 16 or start == last:
            data[start:end] = bytes(end - start)
    if data == path.read_bytes():
        return
    path.write_bytes(data)
    assert honest(tmp_path / "t", written) == []
    assert len(contents(tmp_path / "t")[0]) == 25
    assert recover(str(tmp_path / "t")).repaired
    assert path.stat().st_size == last


# -- compressed segments ------------------------------------------------------------------------------------------------


def large(directory: Path) -> int:
    """A journal whose first segment is compressed in several pieces."""
    plan = [[400] * 320, [2]]
    written = make(directory, plan)
    plain = directory / plain_name(0)
    data = plain.read_bytes()
    assert len(data) > 2 * PIECE
    packed = b"".join(squeeze(data[at : at + PIECE], at) for at in range(0, len(data), PIECE))
    (directory / packed_name(0)).write_bytes(packed)
    plain.unlink()
    return written


def test_a_damaged_piece_of_a_compressed_segment_costs_only_that_piece(tmp_path: Path) -> None:
    written = large(tmp_path)
    path = tmp_path / packed_name(0)
    whole = path.read_bytes()
    index = whole.index(whole[:8], 8)
    for at in (4000, index + 9, index + 20, index + 40, index + 5000):
        data = bytearray(whole)
        data[at] ^= 4
        path.write_bytes(data)
        missing = sum(hole.records for hole in honest(tmp_path, written))
        assert written // 4 < missing < written // 2
    path.write_bytes(whole[: index + 100])
    assert honest(tmp_path, written)
    path.write_bytes(whole[:index])
    assert honest(tmp_path, written)
    path.write_bytes(whole[index:])
    assert honest(tmp_path, written)


def test_pieces_that_were_swapped_are_named(tmp_path: Path) -> None:
    written = large(tmp_path)
    path = tmp_path / packed_name(0)
    whole = path.read_bytes()
    index = whole.index(whole[:8], 8)
    path.write_bytes(whole[index:] + whole[:index])
    assert honest(tmp_path, written)


def test_where_both_forms_exist_the_plain_one_is_read(tmp_path: Path) -> None:
    written = make(tmp_path, PLAN)
    (tmp_path / packed_name(0)).write_bytes(b"half")
    assert honest(tmp_path, written) == []
    assert [segment.compressed for segment in segments(tmp_path)] == [False, False, False]


def test_a_segment_that_is_compressed_while_we_read_is_still_found(tmp_path: Path) -> None:
    written = make(tmp_path, PLAN)
    parts = walk(tmp_path)
    seen = [next(parts)]
    make(tmp_path / "again", PLAN, packed=[1])
    (tmp_path / "again" / packed_name(1)).rename(tmp_path / packed_name(1))
    (tmp_path / plain_name(1)).unlink()
    seen += parts
    assert not [part for part in seen if isinstance(part, Flaw)]
    assert written == 18


# -- anything -------------------------------------------------------------------------------------------------------------

CUTS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "zero", "cut", "drop", "double", "junk"]), st.integers(0, 2**30), st.integers(1, 300)
    ),
    min_size=1,
    max_size=4,
)
PLANS = st.lists(st.lists(st.integers(1, 12), max_size=5), min_size=1, max_size=3)


@given(plan=PLANS, cuts=CUTS, which=st.integers(0, 2))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_to_a_file_nothing_wrong_is_read(
    tmp_path: Path, plan: list[list[int]], cuts: list[tuple[str, int, int]], which: int
) -> None:
    shutil.rmtree(tmp_path / "t", ignore_errors=True)
    written = make(tmp_path / "t", plan)
    path = tmp_path / "t" / plain_name(which % len(plan))
    data = bytearray(path.read_bytes())
    for how, where, length in cuts:
        at = where % (len(data) or 1)
        damage(data, how, at, length)
    path.write_bytes(data)
    records, holes = contents(tmp_path / "t")
    numbers = [one.now for one in records]
    assert records == [record(number) for number in numbers]
    assert numbers == sorted(set(numbers))
    first = recover(str(tmp_path / "t"))
    assert recover(str(tmp_path / "t")) == first._replace(repaired=False)
    again, _ = contents(tmp_path / "t")
    assert again == records, "mending changes nothing that could be read"
    if path.name != plain_name(len(plan) - 1):
        assert bool(holes) or len(numbers) == written


def damage(data: bytearray, how: str, at: int, length: int) -> None:
    """One misfortune, in place."""
    match how:
        case "flip" if data:
            data[at] ^= 1 << length % 8
        case "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        case "cut":
            del data[at:]
        case "drop":
            del data[at : at + length]
        case "double":
            data[at:at] = data[at : at + length]
        case "junk":
            data[at:at] = random.Random(length).randbytes(length)


def test_a_hole_that_was_recorded_accounts_for_the_numbers_it_stands_for(tmp_path: Path) -> None:
    make(tmp_path, [[4]])
    tape = Tape(str(tmp_path), 1, JOURNAL, lambda: 0)
    tape.begin(0, Header(format=FORMAT, version="test", segment=1, first=9, now=9), (8, "journal", 9, "disk full", 6))
    tape.write([entry(10), entry(11)], 10)
    tape.close()
    records, holes = contents(tmp_path)
    assert records == [record(number) for number in (0, 1, 2, 3, 10, 11)]
    assert [(hole.records, hole.why) for hole in holes] == [(6, "disk full")]
    found = verify(tmp_path)
    assert [hole.why for hole in found.holes] == ["recorded: 6 records missing: disk full"]


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_missing_before_a_segment_comes_before_its_checkpoint(tmp_path: Path, recorded: bool) -> None:
    make(tmp_path, [[2], [2], [2]])
    (tmp_path / plain_name(1)).unlink()
    if recorded:
        (tmp_path / plain_name(2)).unlink()
        tape = Tape(str(tmp_path), 2, JOURNAL, lambda: 0)
        tape.begin(0, Header(format=FORMAT, version="test", segment=2, first=3, now=4), (8, "journal", 4, "full", 2))
        tape.write([entry(4), entry(5)], 4)
        tape.close()
    names = [type(part).__name__ for part in read(tmp_path)]
    assert names == ["Header", "Frame", "Frame", "Hole", "Header", "Tick", "Frame"]
