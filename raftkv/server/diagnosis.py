"""What a running node is doing, for its log: where each task of the event loop waits.

Files, lines and names of functions only: no variables, which have requests and stored values.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import Any, Final

from raftkv.logs import Logger, write_at_any_level

STACKS_MAX: Final = 200
"""Lines of one dump: tasks that wait at the same place share a line."""

FRAMES_MAX: Final = 30
_PACKAGES: Final = Path(__file__).parents[2]


def dump_tasks(log: Logger) -> None:
    """Write the stack of every task, one line for those that are the same, the most common first,
    at any log level.
    """
    counts = Counter(stack_of(task) for task in asyncio.all_tasks())
    stacks = counts.most_common(STACKS_MAX)
    for stack, count in stacks:
        write_at_any_level(log, "info", "task_stack", tasks=count, waits_at=list(stack))
    write_at_any_level(
        log, "info", "tasks", total=counts.total(), stacks_left_out=len(counts) - len(stacks)
    )


def stack_of(task: asyncio.Task[Any]) -> tuple[str, ...]:
    """Where the task waits: `file:line function`, the outermost call first."""
    frames: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(frames) < FRAMES_MAX:
        frame = _frame_of(waiting)
        if frame is None:
            break
        frames.append(f"{_shown(frame.f_code)}:{frame.f_lineno} {frame.f_code.co_qualname}")
        waiting = _awaited(waiting)
    return tuple(frames)


def _frame_of(waiting: Any) -> Any:
    """The frame of a coroutine or generator; None for a future or one that has ended."""
    for attribute in ("cr_frame", "gi_frame", "ag_frame"):
        if hasattr(waiting, attribute):
            return getattr(waiting, attribute)
    return None


def _awaited(waiting: Any) -> Any:
    for attribute in ("cr_await", "gi_yieldfrom", "ag_await"):
        if hasattr(waiting, attribute):
            return getattr(waiting, attribute)
    return None


def _shown(code: CodeType) -> str:
    path = Path(code.co_filename)
    return str(path.relative_to(_PACKAGES)) if path.is_relative_to(_PACKAGES) else str(path)
