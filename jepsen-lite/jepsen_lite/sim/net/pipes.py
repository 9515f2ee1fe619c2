"""One direction of a stream between two processes: in order, complete, or broken.

While the way is cut, what was sent waits, as TCP keeps it; a pipe that waits for too long breaks,
as keepalive would break it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.world import World

RESEND_S = 0.2
KEEPALIVE_S = 7.0


def no_delay() -> float:
    """The delay of a message beyond that of the network, by default."""
    return 0.0


class Pipe:
    """`deliver` gets each message, in order; `broken` is called once if the pipe gives up."""

    def __init__(
        self,
        world: World,
        network: SimulatedNetwork,
        source: str,
        target: str,
        deliver: Callable[[bytes], None],
        broken: Callable[[], None],
        late_s: Callable[[], float] = no_delay,
    ) -> None:
        self._world = world
        self._network = network
        self._source = source
        self.target = target
        self._deliver = deliver
        self._broken = broken
        self._late_s = late_s
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._last_s = 0.0
        self._arriving = False
        self._stalled_s: float | None = None
        self._closed = False
        self._finished: Callable[[], None] | None = None

    def send(self, message: bytes) -> None:
        """Put it on its way."""
        if self._closed or self._finished is not None:
            return
        delay_s = self._network.delay_s(self._source, self.target, len(message)) + self._late_s()
        # Never before the one sent before it.
        self._last_s = max(self._last_s, self._world.now_s + delay_s)
        self._waiting.append((self._last_s, message))
        if not self._arriving:
            self._arriving = True
            self._world.at(self._last_s, self._arrive)

    def close(self) -> None:
        """Nothing arrives any more."""
        self._closed = True
        self._waiting.clear()

    def finish(self, finished: Callable[[], None]) -> None:
        """Send nothing more; `finished` is called once all that was sent has arrived or is lost."""
        self._finished = finished
        if self._closed or not self._arriving:
            self._end()

    def _end(self) -> None:
        self.close()
        finished, self._finished = self._finished, None
        if finished is not None:
            finished()

    def _arrive(self) -> None:
        if self._closed:
            return
        now_s = self._world.now_s
        if not self._network.reaches(self._source, self.target):
            self._stall(now_s)
            return
        self._stalled_s = None
        while self._waiting and self._waiting[0][0] <= now_s:
            self._deliver(self._waiting.popleft()[1])
        self._arriving = bool(self._waiting)
        if self._waiting:
            self._world.at(self._waiting[0][0], self._arrive)
        elif self._finished is not None:
            self._end()

    def _stall(self, now_s: float) -> None:
        if self._stalled_s is None:
            self._stalled_s = now_s
        if now_s - self._stalled_s >= KEEPALIVE_S:
            if self._finished is not None:
                self._end()
            else:
                self.close()
                self._broken()
        else:
            self._world.after(RESEND_S, self._arrive)
