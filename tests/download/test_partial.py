"""Ranges, the journal, the hash and the partial file, compared with a set of bytes."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.download import partial as module
from gpux.download.partial import (
    Journal,
    PartialFile,
    PrefixHash,
    discard,
    finish,
    hash_algorithm,
    header,
    read_journal,
)
from gpux.download.ranges import Range, Ranges, split
from gpux.errors import CancelledError
from gpux.model.info import ModelFile
from gpux.system.cancel import CancelToken
from gpux.system.hashing import hash_file

SIZE = 120
ETAG = "e" * 64
spans = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 40)).map(lambda span: (span[0], min(sum(span), SIZE)))
CONTENT = bytes(range(SIZE))
FILE = ModelFile("model.bin", SIZE, sha256=hashlib.sha256(CONTENT).hexdigest())


def covered(ranges: list[Range] | Ranges) -> set[int]:
    return {byte for start, stop in ranges for byte in range(start, stop)}


@given(st.lists(spans), spans)
def test_ranges_are_a_set_of_bytes(added: list[Range], window: Range) -> None:
    ranges = Ranges()
    for span in added:
        start, stop = ranges.add(*span)
        assert start <= span[0] and span[1] <= stop
    expected = covered(added)

    assert covered(ranges) == expected and ranges.total == len(expected)
    assert all(before[1] < after[0] for before, after in zip(list(ranges), list(ranges)[1:], strict=False))
    assert ranges.prefix == next(byte for byte in range(SIZE + 1) if byte not in expected)
    assert covered(ranges.gaps(*window)) == set(range(*window)) - expected


@pytest.mark.parametrize("span", [(0, 0), (3, 2), (-1, 5)])
def test_invalid_ranges(span: Range) -> None:
    with pytest.raises(ValueError, match="not a range"):
        Ranges().add(*span)


@given(st.lists(spans), st.integers(1, 50))
def test_split_ranges_are_the_gaps_in_order(added: list[Range], size: int) -> None:
    gaps = Ranges(added).gaps(0, SIZE)

    cut = split(gaps, size)

    assert covered(cut) == covered(gaps) and sum(stop - start for start, stop in cut) == len(covered(gaps))
    assert cut == sorted(cut) and all(0 < stop - start <= size for start, stop in cut)


@given(st.lists(spans, min_size=1), st.lists(spans))
def test_a_journal_lists_the_recorded_ranges(
    tmp_path_factory: pytest.TempPathFactory, a: list[Range], b: list[Range]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    here = Ranges(a)
    with Journal(path, ETAG, SIZE, here) as journal:
        for span in b:
            journal.record(here.add(*span))

    found = read_journal(path, ETAG, SIZE)

    assert found is not None and list(found) == list(here)
    assert path.stat().st_size <= len(header(ETAG, SIZE)) + 34 * (len(a) + len(b))


@given(st.lists(spans, min_size=1), st.data())
def test_a_torn_journal_lists_no_other_bytes(
    tmp_path_factory: pytest.TempPathFactory, added: list[Range], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    Journal(path, ETAG, SIZE, Ranges(added)).close()
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    found = read_journal(path, ETAG, SIZE)

    assert found is not None and covered(found) <= covered(added)


@given(st.binary(max_size=200))
def test_a_journal_of_random_bytes_is_read(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    path.write_bytes(header(ETAG, SIZE) + rubbish)

    found = read_journal(path, ETAG, SIZE)

    assert found is not None and covered(found) <= set(range(SIZE))


def test_a_journal_of_another_blob_is_ignored(tmp_path: Path) -> None:
    Journal(tmp_path / "j", ETAG, SIZE, Ranges([(0, 10)])).close()

    other = read_journal(tmp_path / "j", ETAG, SIZE + 1)
    assert other is not None and list(other) == []
    assert read_journal(tmp_path / "none", ETAG, SIZE) is None


@given(st.permutations(range(12)), st.integers(1, 30), st.integers(1, 60))
def test_the_hash_does_not_depend_on_the_order_of_arrival(order: list[int], chunk: int, kept: int) -> None:
    """Ten bytes at a time, in any order, with any size of chunks read back and any limit of memory."""
    disk, here = bytearray(SIZE), Ranges()

    def read_into(offset: int, buffer: memoryview) -> int:
        count = min(len(buffer), chunk)
        assert covered([(offset, offset + count)]) <= covered(here), "read before it arrived"
        buffer[:count] = disk[offset : offset + count]
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", kept)
        follower = PrefixHash(FILE, read_into)
        for number in order:
            part = CONTENT[10 * number : 10 * number + 10]
            disk[10 * number : 10 * number + 10] = part
            here.add(10 * number, 10 * number + 10)
            follower.arrived(10 * number, [part[:3], part[3:]], here.prefix)
            if number % 3 == 0:
                follower.catch_up(CancelToken())
                assert follower.position == here.prefix
        follower.catch_up(CancelToken())
    assert follower.hexdigest() == FILE.sha256


def test_the_hash_waits_in_a_thread_and_can_be_cancelled() -> None:
    follower, cancel = PrefixHash(FILE, lambda offset, buffer: 0), CancelToken()
    ended: list[BaseException | None] = []

    def follow() -> None:
        try:
            follower.follow(SIZE, cancel)
        except CancelledError as exc:
            ended.append(exc)

    thread = threading.Thread(target=follow)
    thread.start()
    follower.arrived(0, [CONTENT[:50]], 50)
    cancel.cancel()
    thread.join()
    assert len(ended) == 1


def test_both_hashes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    assert hash_file(tmp_path / "f", hash_algorithm(FILE), lambda length: None, None) == FILE.sha256
    git = ModelFile("f", SIZE, blob_id=hashlib.sha1(b"blob 120\0" + CONTENT).hexdigest())
    assert hash_file(tmp_path / "f", hash_algorithm(git), lambda length: None, None) == git.blob_id


@given(st.lists(st.lists(spans, max_size=6), min_size=1, max_size=4), st.booleans())
def test_a_partial_file_continues_where_the_last_process_stopped(
    tmp_path_factory: pytest.TempPathFactory, processes: list[list[Range]], torn: bool
) -> None:
    """Each inner list contains the ranges that one process writes before it is killed."""
    folder = tmp_path_factory.mktemp("partial")
    path, journal, written = folder / "p", folder / "j", set[int]()
    for spans_of_process in processes:
        with PartialFile(path, journal, FILE, sparse=True) as partial:
            assert covered(partial.gaps()) == set(range(SIZE)) - written
            for start, stop in spans_of_process:
                partial.write(start, [CONTENT[start:stop]])
                written |= set(range(start, stop))
        if torn:
            with journal.open("ab") as file:
                file.write(b"00000000000000")
    with PartialFile(path, journal, FILE, sparse=True) as partial:
        for start, stop in partial.gaps():
            partial.write(start, [CONTENT[start:stop]])
        partial.follow(CancelToken())
        assert partial.hexdigest() == FILE.sha256
    finish(path, journal, folder / "blob")
    assert [file.name for file in folder.iterdir()] == ["blob"]
    assert (folder / "blob").read_bytes() == CONTENT


def test_bytes_that_arrived_are_never_written_again(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "p", tmp_path / "j", FILE, sparse=True) as partial:
        partial.write(10, [CONTENT[10:20]])
        partial.write(0, [b"x" * SIZE])

    assert (tmp_path / "p").read_bytes()[8:22] == b"xx" + CONTENT[10:20] + b"xx"


def test_a_partial_without_a_journal_is_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(CONTENT[:70])
    for sparse in (False, True):
        with PartialFile(tmp_path / "p", tmp_path / "j", FILE, sparse=sparse) as partial:
            assert partial.gaps() == [(70, SIZE)]
    (tmp_path / "j").unlink()
    (tmp_path / "p").write_bytes(CONTENT + b"longer")
    with PartialFile(tmp_path / "p", tmp_path / "j", FILE, sparse=False) as partial:
        assert partial.gaps() == [(0, SIZE)]
    discard(tmp_path / "p", tmp_path / "j")
    assert not list(tmp_path.glob("[pj]"))


def test_a_journal_without_its_file_is_ignored(tmp_path: Path) -> None:
    Journal(tmp_path / "j", FILE.sha256 or "", SIZE, Ranges([(0, SIZE)])).close()

    with PartialFile(tmp_path / "p", tmp_path / "j", FILE, sparse=True) as partial:
        assert partial.gaps() == [(0, SIZE)]
