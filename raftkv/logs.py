"""Logging of a node: structlog to standard error, as text or JSON, its level changeable live.

One event per unit of work; callers bind what it belongs to (node, term, index, request). Each
line carries a Lamport stamp of `CLOCK`, and what nodes send to each other tells it: the lines of
all nodes, sorted by (lamport, node), have every cause before its effects, whatever the wall
clocks say. After a restart stamps begin at 1, until the first frame from a peer brings them up.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import Processor

from raftkv.clocks import LamportClock, stamp
from raftkv.errors import ConfigurationError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# A traceback's variables are what callers sent, and what others stored.
_WITHOUT_LOCALS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)

LOG_INTERVAL_S = 1.0

# Of this process, as logging is. In memory: an event loop must not wait for a disk to log.
CLOCK = LamportClock()


class _Threshold:
    """The one level of this process. Loggers look here at each call, so old ones follow too."""

    level = logging.INFO


class Logger(structlog.BoundLoggerBase):
    """What `get_logger` returns. A call below the level costs one comparison."""

    def debug(self, event: str, **facts: Any) -> None:
        if _Threshold.level <= logging.DEBUG:
            self._proxy_to_logger("debug", event, **facts)

    def info(self, event: str, **facts: Any) -> None:
        if _Threshold.level <= logging.INFO:
            self._proxy_to_logger("info", event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        if _Threshold.level <= logging.WARNING:
            self._proxy_to_logger("warning", event, **facts)

    def error(self, event: str, **facts: Any) -> None:
        self._proxy_to_logger("error", event, **facts)

    def critical(self, event: str, **facts: Any) -> None:
        """The node can't go on."""
        self._proxy_to_logger("critical", event, **facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error with the traceback of the exception being handled."""
        self._proxy_to_logger("error", event, **{"exc_info": True, **facts})


def get_logger(**facts: Any) -> Logger:
    """A logger whose every event carries `facts`."""
    logger: Logger = structlog.get_logger(**facts)
    return logger


class LineRate:
    """Lets a line of one name through once in `LOG_INTERVAL_S`, and counts the others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}  # names are few: events and loggers, as the code has them
        self._suppressed: dict[str, int] = {}

    def turn(self, name: str) -> dict[str, int] | None:
        """What to add to this line: how many were suppressed before it. None: leave it out."""
        now = self._clock()
        if now - self._last.get(name, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            self._suppressed[name] = self._suppressed.get(name, 0) + 1
            return None
        self._last[name] = now
        count = self._suppressed.pop(name, 0)
        return {"suppressed": count} if count else {}


class RateLimited:
    """A logger for what a caller can cause at will: of one event, one line in `LOG_INTERVAL_S`.

    The next line of that event says how many were `suppressed`. `clock` is in seconds.
    """

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._rate = LineRate(clock)

    def info(self, event: str, **facts: Any) -> None:
        if (suppressed := self._rate.turn(event)) is not None:
            self._log.info(event, **facts, **suppressed)

    def warning(self, event: str, **facts: Any) -> None:
        if (suppressed := self._rate.turn(event)) is not None:
            self._log.warning(event, **facts, **suppressed)

    def error(self, event: str, **facts: Any) -> None:
        if (suppressed := self._rate.turn(event)) is not None:
            self._log.error(event, **facts, **suppressed)


def set_level(name: str) -> str:
    """Change the level of every logger from the next event on; returns the one before."""
    if name not in LEVELS:
        raise ConfigurationError(
            f"log_level is {name!r}, but must be one of {', '.join(LEVELS)}. Fix: choose one.",
            key="log_level",
        )
    previous = get_level()
    _Threshold.level = LEVELS[name]
    return previous


def get_level() -> str:
    return next(name for name, level in LEVELS.items() if level == _Threshold.level)


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Set logging up for this process. `log_format` is console or json."""
    out = stream if stream is not None else sys.stderr
    set_level(level)
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamp(CLOCK),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        processors += [
            structlog.processors.ExceptionRenderer(_WITHOUT_LOCALS),
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        processors.append(_console(colors=out.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=Logger,
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Unfailing(out))),
        cache_logger_on_first_use=True,
    )
    _adopt_standard_logging()


def _console(colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=28, exception_formatter=structlog.dev.plain_traceback
    )


class _Unfailing:
    """A stream whose end is no end of the program: the terminal may be closed, a disk may be full.

    What can't be written is lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


MESSAGE_CHARACTERS_MAX = 300
"""Of what a library logs: it may repeat what a caller has sent."""


class _Adopt(logging.Handler):
    """Sends what libraries log through `logging` the same way as our own events.

    Of one logger and level, one line in `LOG_INTERVAL_S`: callers can make gRPC and asyncio log.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rate = LineRate(time.monotonic)

    def emit(self, record: logging.LogRecord) -> None:
        suppressed = self._rate.turn(f"{record.name} {record.levelname}")
        if suppressed is None:
            return
        log = get_logger().bind(logger=record.name, **suppressed)
        message = record.getMessage()[:MESSAGE_CHARACTERS_MAX]
        facts: dict[str, object] = {"exc_info": record.exc_info} if record.exc_info else {}
        if record.exc_info and record.name.startswith("grpc"):
            # What a caller has sent is in it, and where gRPC met it helps nobody.
            facts = {"error": repr(record.exc_info[1])[:MESSAGE_CHARACTERS_MAX]}
        if record.levelno >= logging.ERROR:
            log.error(message, **facts)
        elif record.levelno >= logging.WARNING:
            log.warning(message, **facts)
        else:
            log.debug(message, **facts)


def _adopt_standard_logging() -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Adopt()]
    root.setLevel(logging.WARNING)
