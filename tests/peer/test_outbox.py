"""The outbox of a link: bounded, control first, merged writes."""

from __future__ import annotations

from raftkv.peer import outbox
from raftkv.peer.outbox import FrameOutbox, FrameQueue


def test_nothing_queued_is_nothing_to_write() -> None:
    assert FrameOutbox().take() == b""


def test_control_leaves_ahead_of_bulk_that_was_queued_before() -> None:
    box = FrameOutbox()
    box.bulk.put(b"bulk")
    box.control.put(b"beat")
    assert box.take() == b"beatbulk"


def test_queued_frames_leave_in_one_write_and_in_order() -> None:
    box = FrameOutbox()
    for number in range(10):
        box.bulk.put(b"%d" % number)
    assert box.take() == b"0123456789"
    assert box.take() == b""


def test_control_waits_behind_at_most_one_write_of_bulk() -> None:
    box = FrameOutbox()
    frame = b"x" * (outbox.WRITE_BYTES_MAX // 2)
    for _ in range(6):
        box.bulk.put(frame)
    assert len(box.take()) == outbox.WRITE_BYTES_MAX
    box.control.put(b"beat")
    assert box.take().startswith(b"beat")


def test_a_frame_larger_than_a_write_leaves_alone() -> None:
    box = FrameOutbox()
    large = b"x" * (3 * outbox.WRITE_BYTES_MAX)
    box.bulk.put(large)
    box.bulk.put(b"next")
    assert box.take() == large
    assert box.take() == b"next"


def test_a_queue_drops_whole_frames_above_its_bytes() -> None:
    lane = FrameQueue(bytes_max=10, frames_max=100)
    assert lane.put(b"123456")
    assert not lane.put(b"12345")
    assert lane.put(b"1234")
    assert lane.bytes == 10


def test_a_queue_drops_frames_above_its_count() -> None:
    lane = FrameQueue(bytes_max=100, frames_max=2)
    assert [lane.put(b"x") for _ in range(4)] == [True, True, False, False]


def test_a_frame_over_the_bound_still_fits_an_empty_queue() -> None:
    # Otherwise an entry that is larger than the bound would be dropped for ever.
    lane = FrameQueue(bytes_max=10, frames_max=100)
    assert lane.put(b"x" * 50)
    assert not lane.put(b"x")


def test_a_full_bulk_queue_leaves_room_for_control() -> None:
    box = FrameOutbox()
    box.bulk.put(b"x" * outbox.BULK_BYTES_MAX)
    assert not box.bulk.put(b"x")
    assert box.control.put(b"beat")


def test_a_queue_has_room_again_as_frames_leave() -> None:
    lane = FrameQueue(bytes_max=10, frames_max=100)
    lane.put(b"1234567890")
    lane.take_into([], 100)
    assert lane.bytes == 0
    assert lane.put(b"1234567890")
