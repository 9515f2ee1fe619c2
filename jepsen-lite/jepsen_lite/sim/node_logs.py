"""What simulated nodes log: shown with virtual time, or not at all."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

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
