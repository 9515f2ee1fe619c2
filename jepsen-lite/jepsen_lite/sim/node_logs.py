"""The logs of simulated nodes: shown with virtual time, recorded as lines, or discarded."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

import structlog

from jepsen_lite.sim.world import World
from raftkv import logs


class _Clock:
    """Loggers are made once for the whole process, worlds come and go: this is the present one."""

    world: World | None = None


def follow(world: World) -> None:
    """From now on the stamps are those of this world."""
    _Clock.world = world


def configure(*, show: bool) -> None:
    """Say for this process whether the nodes' logs go to standard error or nowhere."""
    if not show:
        logs.configure("console", "error", io.StringIO())
        return
    logs.set_level("info")
    structlog.configure(
        processors=[_stamp, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=20)],
        wrapper_class=logs.Logger,
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


def _stamp(_: Any, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    now_s = _Clock.world.now_s if _Clock.world is not None else 0.0
    return {"timestamp": f"{now_s:10.6f}", "level": level, **event}


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, list[str]]]:
    """While this is entered, what nodes log is kept: JSON lines with virtual time, by node."""
    lines: dict[str, list[str]] = {}

    def keep(_: Any, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        node = f"node-{event.pop('node')}" if "node" in event else "others"
        now_s = _Clock.world.now_s if _Clock.world is not None else 0.0
        line = {"timestamp": round(now_s, 6), "level": level, **event}
        lines.setdefault(node, []).append(json.dumps(line, default=str))
        raise structlog.DropEvent

    level_before, before = logs.get_level(), structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, keep],
        wrapper_class=logs.Logger,
        cache_logger_on_first_use=False,
    )
    logs.set_level("info")
    try:
        yield lines
    finally:
        structlog.configure(**before)
        logs.set_level(level_before)
