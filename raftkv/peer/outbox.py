"""The outbox of one link: a control and a bulk queue of encoded frames, both bounded."""

from __future__ import annotations

from collections import deque

# Holds all submissions that a node may have in flight, forwarded to a new leader at once
# (`uncommitted_bytes_max`), and what a leader has in flight to one follower. Further frames are
# dropped, as a lossy network would.
BULK_BYTES_MAX = 72 << 20
BULK_FRAMES_MAX = 4096
CONTROL_BYTES_MAX = 1 << 20
CONTROL_FRAMES_MAX = 4096
WRITE_BYTES_MAX = 256 << 10


class FrameQueue:
    """A queue bounded by bytes and by count. A frame over the bytes still fits if it is alone."""

    def __init__(self, bytes_max: int, frames_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames_max = frames_max
        self._frames: deque[bytes] = deque()
        self.bytes = 0

    def put(self, frame: bytes) -> bool:
        """Queue the frame; False if there is no room, which leaves the queue unchanged."""
        if self._frames and (
            self.bytes + len(frame) > self._bytes_max or len(self._frames) >= self._frames_max
        ):
            return False
        self._frames.append(frame)
        self.bytes += len(frame)
        return True

    def take_into(self, write: list[bytes], bytes_max: int) -> None:
        """Move frames to `write`: one at least, more while they stay within `bytes_max`."""
        frames, left = self._frames, bytes_max
        while frames and (left == bytes_max or len(frames[0]) <= left):
            frame = frames.popleft()
            left -= len(frame)
            self.bytes -= len(frame)
            write.append(frame)

    def clear(self) -> None:
        self._frames.clear()
        self.bytes = 0


class FrameOutbox:
    """Control frames leave ahead of bulk frames; queued frames leave as one merged frame.

    A write carries at most one large frame or WRITE_BYTES_MAX of small ones: a heartbeat queued a
    moment later waits behind no more than that.
    """

    def __init__(self) -> None:
        self.control = FrameQueue(CONTROL_BYTES_MAX, CONTROL_FRAMES_MAX)
        self.bulk = FrameQueue(BULK_BYTES_MAX, BULK_FRAMES_MAX)

    def take(self) -> bytes:
        """The bytes of the next frame to write; empty if the queues are."""
        write: list[bytes] = []
        self.control.take_into(write, CONTROL_BYTES_MAX)
        self.bulk.take_into(write, WRITE_BYTES_MAX)
        return write[0] if len(write) == 1 else b"".join(write)

    def clear(self) -> None:
        """Drop all queued frames: the link broke, and they are stale when it is up again."""
        self.control.clear()
        self.bulk.clear()
