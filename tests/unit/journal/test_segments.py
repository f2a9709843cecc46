"""Which segments make up a journal."""

from __future__ import annotations

import zlib

from batch_llm.journal.segments import Segment, chain, chain_end, holds_until, newest_epoch


def seg(epoch: int, start: int, end: int) -> Segment:
    return Segment(epoch, start, end, 0)


def ranges(*segments: Segment) -> list[tuple[int, int, int]]:
    return [(piece.segment.epoch, piece.start, piece.end) for piece in chain(segments)]


def test_a_name_comes_back() -> None:
    segment = Segment(3, 10, 1_000_000_000_000_5, zlib.crc32(b"x"))
    assert Segment.parse(segment.name, segment.end - segment.start) == segment


def test_an_object_that_is_not_whole_is_no_segment() -> None:
    segment = seg(1, 0, 10)
    assert Segment.parse(segment.name, 9) is None
    assert Segment.parse("published-10", 0) is None
    assert Segment.parse(seg(1, 5, 5).name, 0) is None


def test_one_writers_segments_follow_each_other() -> None:
    assert ranges(seg(1, 10, 20), seg(1, 0, 10)) == [(1, 0, 10), (1, 10, 20)]


def test_what_is_missing_ends_what_can_be_trusted() -> None:
    assert ranges(seg(1, 0, 10), seg(1, 12, 20), seg(2, 20, 30)) == [(1, 0, 10)]
    assert chain_end([seg(1, 1, 10)]) == 0


def test_an_upload_whose_reply_was_lost_counts_once() -> None:
    """The same bytes again, and more of them."""
    assert ranges(seg(1, 0, 10), seg(1, 0, 15), seg(1, 15, 20)) == [(1, 0, 15), (1, 15, 20)]


def test_a_later_writer_cuts_off_what_an_earlier_one_wrote_without_its_lease() -> None:
    found = ranges(seg(1, 0, 10), seg(1, 10, 20), seg(1, 20, 30), seg(2, 20, 25), seg(2, 25, 40))
    assert found == [(1, 0, 10), (1, 10, 20), (2, 20, 25), (2, 25, 40)]
    assert ranges(seg(1, 0, 30), seg(2, 20, 25)) == [(1, 0, 20), (2, 20, 25)]


def test_a_compacted_journal_hides_all_before() -> None:
    assert ranges(seg(1, 0, 10), seg(1, 10, 20), seg(2, 20, 30), seg(2, 0, 30), seg(2, 30, 31)) == [
        (2, 0, 30),
        (2, 30, 31),
    ]


def test_a_copy_holds_until_a_later_writer_began() -> None:
    segments = [seg(1, 0, 20), seg(2, 15, 30)]
    assert holds_until(segments, 15, 1) == 15
    assert holds_until(segments, 20, 1) == 0
    assert holds_until(segments, 30, 2) == 30
    assert newest_epoch(segments) == 2 and newest_epoch([]) == 0
