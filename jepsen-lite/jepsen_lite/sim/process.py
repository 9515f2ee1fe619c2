"""A simulated process: an event loop of its own on virtual time.

Each process has its own loop, as on real machines: a future of one can't be awaited by another,
and when a process is killed, its loop simply never turns again. Its clock may be fast or slow, and
may jump ahead.
"""

from __future__ import annotations

import asyncio
import traceback
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from jepsen_lite.sim.world import World

TURN_S = 20e-6
"""What one turn of a loop costs: so a loop that never rests makes no endless loop of ours."""

LAST_TURNS_MAX = 50

CLOCK_GRAIN_S = 1e-9
"""A timer that rings by so much too early has rung in time: clocks are floating point."""


class Handle:
    """What asyncio gets for a callback, to cancel it by. Its own costs more than what it calls."""

    __slots__ = ("args", "callback", "context", "when_s")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        when_s: float = 0.0,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.when_s = when_s

    def cancel(self) -> None:
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.when_s


class Process(asyncio.AbstractEventLoop):
    """An event loop that turns when the world says so.

    `rate` is how fast its clock runs against the world's. `on_turn` is called after every turn,
    `on_exception` with what nothing in the process caught.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        rate: float = 1.0,
        on_turn: Callable[[], None] | None = None,
        on_exception: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.alive = True
        self._world = world
        self._rate = rate
        self._on_turn = on_turn
        self._on_exception = on_exception
        self._ready: deque[Handle] = deque()
        self._turn_due = False
        self._paused = False
        # In the order of their making: the order in which they end must not be chance.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        # In the order of their making, for the same reason.
        self._timers: dict[Handle, None] = {}
        # Clocks count from the start of something, so no two processes agree on the hour.
        self._clock_base_s = 1000.0 + 10.0 * len(name)
        self._clock_set_s = world.now_s
        self._wall_ahead_s = 0.0

    # ---- for the simulator -----------------------------------------------------------

    def enter(self, callback: Callable[..., object], *args: object) -> None:
        """Have the process run this in its next turn; lost if it is dead."""
        self.call_soon(callback, *args)

    def pause(self) -> None:
        """Stop turning (SIGSTOP). What arrives waits."""
        self._paused = True

    @property
    def paused(self) -> bool:
        return self._paused

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._wake()

    def jump(self, by_s: float) -> None:
        """Its clock is suddenly so much further on, as after a sleep of the machine."""
        self._set_clock(self.time() + by_s, self._rate)

    def set_rate(self, rate: float) -> None:
        """From now on its clock runs so fast."""
        self._set_clock(self.time(), rate)

    def set_wall_clock(self, by_s: float) -> None:
        """Move the clock of the wall, which may go back; timers don't go by it."""
        self._wall_ahead_s += by_s

    def wall_s(self) -> float:
        """What a clock says that can be set. No production code asks it."""
        return self.time() + self._wall_ahead_s

    def _set_clock(self, base_s: float, rate: float) -> None:
        self._clock_base_s, self._clock_set_s, self._rate = base_s, self._world.now_s, rate
        for timer in self._timers:
            self._arm(timer)

    def kill(self) -> None:
        """End it without its knowing: nothing that it still does may reach the outside.

        What it has open must be cut before. Its coroutines are unwound here and now, because
        the garbage collector would do that at a moment of its own choice.
        """
        if not self.alive:
            return
        self.alive = False
        before = events._get_running_loop()
        cancelled: set[asyncio.Task[Any]] = set()
        for _ in range(LAST_TURNS_MAX):
            # What had just arrived may begin new tasks on the way down.
            for task in [task for task in self._tasks if task not in cancelled]:
                cancelled.add(task)
                task.cancel()
            if not self._ready:
                break
            self._run_ready()
        events._set_running_loop(before)
        self._world.running = before
        self._ready.clear()

    # ---- the loop that asyncio sees --------------------------------------------------

    def time(self) -> float:
        """This process's monotonic clock."""
        return self._clock_base_s + (self._world.now_s - self._clock_set_s) * self._rate

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        if not self._turn_due:
            self._wake()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Handle:
        timer = Handle(callback, args, context, when)
        self._timers[timer] = None
        self._arm(timer)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        # A name of its own: asyncio's count goes on from one run to the next.
        task = asyncio.Task(coro, loop=self, name=name or self.name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """There are no threads: it is done in the next turn."""
        done = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - the awaiting task gets it
                if not done.cancelled():
                    done.set_exception(error)
            else:
                if not done.cancelled():
                    done.set_result(result)

        self.call_soon(run)
        return done

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.alive

    def is_closed(self) -> bool:
        return not self.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.alive and self._on_exception is not None:
            error = context.get("exception")
            trace = "".join(traceback.format_exception(error)) if error is not None else ""
            self._on_exception(f"{self.name}: {context['message']}: {error!r}\n{trace}")

    # ---- turning ---------------------------------------------------------------------

    def _arm(self, timer: Handle) -> None:
        self._world.after((timer.when_s - self.time()) / self._rate, self._ring, timer)

    def _ring(self, timer: Handle) -> None:
        # After a change of the clock each timer was armed anew: one that is not due rings again.
        if timer not in self._timers or timer.when_s > self.time() + CLOCK_GRAIN_S:
            return
        del self._timers[timer]
        if timer.callback is not None and self.alive:
            self._ready.append(timer)
            self._wake()

    def _wake(self) -> None:
        if not self._turn_due and not self._paused and self.alive:
            self._turn_due = True
            self._world.after(TURN_S, self._turn)

    def _turn(self) -> None:
        """Turn while callbacks are ready and no other event comes first."""
        world = self._world
        while self.alive and not self._paused:
            self._run_ready()
            if self._on_turn is not None:
                self._on_turn()
            if not self._ready:
                break
            if not world.skip_to(world.now_s + TURN_S):
                world.after(TURN_S, self._turn)
                return
        self._turn_due = False

    def _run_ready(self) -> None:
        """What is ready now; what it makes ready is for the next turn."""
        ready = self._ready
        # It asks the kernel for our process id, so it is not called more often than needed;
        # the world takes the last one back.
        if self._world.running is not self:
            self._world.running = self
            events._set_running_loop(self)
        for _ in range(len(ready)):
            handle = ready.popleft()
            callback, context = handle.callback, handle.context
            if callback is None:
                continue
            try:
                if context is None:
                    callback(*handle.args)
                else:
                    context.run(callback, *handle.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - it is the process's own, as in asyncio
                self.call_exception_handler({"message": f"in {callback}", "exception": error})

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
