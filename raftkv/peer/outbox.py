"""What waits to be written to one peer: two lanes of encoded frames, bounded. Knows no network."""

from __future__ import annotations

from collections import deque

# All that a node may have under way, forwarded to a new leader at once (`uncommitted_bytes_max`),
# and what a leader has in flight to one follower. More is dropped, as on a network that loses it.
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
        """Queue the frame; False if there is no room, which leaves the lane as it was."""
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
    """Control frames leave ahead of bulk; what has gathered leaves as one merged frame.

    A write carries at most one large frame or WRITE_BYTES_MAX of small ones, so that a heartbeat
    which comes a moment later waits behind no more than that.
    """

    def __init__(self) -> None:
        self.control = FrameQueue(CONTROL_BYTES_MAX, CONTROL_FRAMES_MAX)
        self.bulk = FrameQueue(BULK_BYTES_MAX, BULK_FRAMES_MAX)

    def take(self) -> bytes:
        """The bytes of the next frame to write; empty if nothing waits."""
        write: list[bytes] = []
        self.control.take_into(write, CONTROL_BYTES_MAX)
        self.bulk.take_into(write, WRITE_BYTES_MAX)
        return write[0] if len(write) == 1 else b"".join(write)

    def clear(self) -> None:
        """Forget what waits: the link broke, and the peer will need something newer."""
        self.control.clear()
        self.bulk.clear()
