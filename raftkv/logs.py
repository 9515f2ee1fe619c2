"""Logging of a node: structlog to standard error, as text or JSON, its level changeable live.

One event per unit of work; callers bind its context (node, term, index, request). Each line has a
Lamport stamp of `CLOCK`, and the frames between nodes carry it. Sorted by (lamport, node), the
lines of all nodes have every cause before its effects, whatever the wall clocks show. After a
restart stamps begin at 1, until the first frame from a peer advances them.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
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

# The variables in a traceback contain requests and stored values of clients.
_WITHOUT_LOCALS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)

LOG_INTERVAL_S = 1.0
NAMES_MAX = 1_000

# One clock per process, as logging. In memory, because an event loop must not wait for a disk.
CLOCK = LamportClock()


class _Threshold:
    """The level of this process.

    Loggers read it at each call, so a change applies to all of them.
    """

    level = logging.INFO


class Logger(structlog.BoundLoggerBase):
    """The logger of `get_logger`. A call below the level costs one comparison."""

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
        """An event after which the node can't continue."""
        self._proxy_to_logger("critical", event, **facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error with the traceback of the exception being handled."""
        self._proxy_to_logger("error", event, **{"exc_info": True, **facts})


def get_logger(**facts: Any) -> Logger:
    """A logger that adds `facts` to each event."""
    logger: Logger = structlog.get_logger(**facts)
    return logger


def write_at_any_level(log: Logger, method: str, event: str, **facts: Any) -> None:
    """Write an event that no level suppresses; `method` (info, warning) is its own level."""
    log.bind()._proxy_to_logger(method, event, **facts)


class LineRate:
    """Admits one line of a name per `LOG_INTERVAL_S`, and counts the suppressed ones.

    `lines_max` bounds the lines of all names together in an interval. Of more than `NAMES_MAX`
    names the one used least recently is forgotten, and its count passes to the next line.
    """

    def __init__(self, clock: Callable[[], float], lines_max: int | None = None) -> None:
        self._clock = clock
        self._lines_max = lines_max
        self._interval_began = -LOG_INTERVAL_S
        self._lines = 0
        self._names: OrderedDict[str, _Lines] = OrderedDict()
        self._suppressed = 0  # of names that were forgotten

    def admit(self, name: str) -> dict[str, int] | None:
        """The facts to add to this line: the number of suppressed lines. None: suppress it."""
        now = self._clock()
        lines = self._names.setdefault(name, _Lines())
        self._names.move_to_end(name)
        if len(self._names) > NAMES_MAX:
            _, forgotten = self._names.popitem(last=False)
            self._suppressed += forgotten.suppressed
        if now - lines.last < LOG_INTERVAL_S or not self._has_room(now):
            lines.suppressed += 1
            return None
        count, self._suppressed = lines.suppressed + self._suppressed, 0
        lines.last, lines.suppressed = now, 0
        self._lines += 1
        return {"suppressed": count} if count else {}

    def _has_room(self, now: float) -> bool:
        if now - self._interval_began >= LOG_INTERVAL_S:
            self._interval_began, self._lines = now, 0
        return self._lines_max is None or self._lines < self._lines_max


@dataclass(slots=True)
class _Lines:
    last: float = -LOG_INTERVAL_S
    suppressed: int = 0


class RateLimited:
    """A logger for events that a client can cause at will: one line per event and `LOG_INTERVAL_S`.

    The next line of an event has the number of `suppressed` ones. `clock` is in seconds.
    """

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._rate = LineRate(clock)

    def info(self, event: str, **facts: Any) -> None:
        if (suppressed := self._rate.admit(event)) is not None:
            self._log.info(event, **facts, **suppressed)

    def warning(self, event: str, **facts: Any) -> None:
        if (suppressed := self._rate.admit(event)) is not None:
            self._log.warning(event, **facts, **suppressed)

    def error(self, event: str, **facts: Any) -> None:
        if (suppressed := self._rate.admit(event)) is not None:
            self._log.error(event, **facts, **suppressed)


def set_level(name: str) -> str:
    """Change the level of all loggers from the next event on. Returns the previous level."""
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
    """A stream that drops text that can't be written: the terminal is closed or a disk full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


MESSAGE_CHARACTERS_MAX = 300
"""Characters of a library's message, which may quote a client's request."""


class _Adopt(logging.Handler):
    """Passes the events that libraries log through `logging` to our own loggers.

    It admits one line per logger, level and `LOG_INTERVAL_S`, because clients can cause events of
    gRPC and asyncio.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rate = LineRate(time.monotonic)

    def emit(self, record: logging.LogRecord) -> None:
        suppressed = self._rate.admit(f"{record.name} {record.levelname}")
        if suppressed is None:
            return
        log = get_logger().bind(logger=record.name, **suppressed)
        message = record.getMessage()[:MESSAGE_CHARACTERS_MAX]
        facts: dict[str, object] = {"exc_info": record.exc_info} if record.exc_info else {}
        if record.exc_info and record.name.startswith("grpc"):
            # The traceback contains the client's request, and only frames of gRPC.
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
