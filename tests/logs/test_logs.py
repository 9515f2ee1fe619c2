"""Log lines have their stream, format and bound facts, and a change of the level applies at
once."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from raftkv import logs
from raftkv.clocks import LamportTime
from raftkv.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, standard, level = root.handlers[:], root.level, logs.get_level()
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(standard)
    logs.set_level(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_has_the_bound_facts() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out)
    logs.get_logger(node=1).bind(term=3).info("became leader", index=7)
    (line,) = lines(out)
    assert line["event"] == "became leader"
    assert (line["node"], line["term"], line["index"], line["level"]) == (1, 3, 7, "info")
    assert "timestamp" in line


def test_each_line_has_a_later_time_than_the_one_before_and_what_is_not_logged_has_none() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out)
    log = logs.get_logger(node=1)
    log.info("one")
    log.debug("not logged")
    log.info("two")
    one, two = (line["lamport"] for line in lines(out))
    assert isinstance(one, int)
    assert two == one + 1
    assert logs.CLOCK.receive(LamportTime(one + 1000)).value == one + 1001
    log.info("three")
    assert lines(out)[2]["lamport"] == one + 1002


def test_a_new_level_reaches_loggers_that_exist_already() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out)
    log = logs.get_logger(node=1)
    log.debug("one")
    assert logs.set_level("debug") == "info"
    log.debug("two")
    assert logs.set_level("error") == "debug"
    log.warning("three")
    log.error("four")
    assert [line["event"] for line in lines(out)] == ["two", "four"]
    assert logs.get_level() == "error"


def test_critical_events_are_logged_at_any_level() -> None:
    # The driver logs them while it stops; a logger that fails would leave it half stopped.
    out = io.StringIO()
    logs.configure("json", "error", out)
    structlog.get_logger("raftkv.node").bind(node=1).critical("node_stopped", reason="no disk")
    (line,) = lines(out)
    assert (line["event"], line["level"]) == ("node_stopped", "critical")


def test_a_level_that_does_not_exist_changes_nothing() -> None:
    logs.set_level("warning")
    with pytest.raises(ConfigurationError, match="must be one of debug, info, warning, error"):
        logs.set_level("verbose")
    assert logs.get_level() == "warning"


def test_an_exception_is_one_line_of_json() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out)
    try:
        raise OSError("disk")
    except OSError:
        logs.get_logger().exception("stopping")
    (line,) = lines(out)
    assert line["level"] == "error"
    assert "disk" in json.dumps(line["exception"])


def test_events_of_libraries_have_the_form_of_our_own() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out)
    logging.getLogger("asyncio").warning("slow callback: %s", 5)
    logging.getLogger("grpc").info("chatter")
    (line,) = lines(out)
    assert (line["event"], line["logger"]) == ("slow callback: 5", "asyncio")


def test_the_console_form_has_no_colour_in_a_pipe() -> None:
    out = io.StringIO()
    logs.configure("console", "info", out)
    logs.get_logger(node=2).info("ready", clients="127.0.0.1:7411")
    assert "\x1b" not in out.getvalue()
    assert "ready" in out.getvalue()
    assert "node=2" in out.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_has_no_values_of_variables(form: str) -> None:
    out = io.StringIO()
    logs.configure(form, "info", out)
    secret = "what a caller " + "sent"
    try:
        raise ValueError(len(secret))
    except ValueError:
        logs.get_logger().exception("failed")
        logging.getLogger("grpc").exception("failed")
    assert "test_logs.py" in out.getvalue()
    assert "what a caller sent" not in out.getvalue()


def test_rate_limited_events_are_logged_once_a_second_with_the_number_of_suppressed_ones() -> None:
    out, now = io.StringIO(), 100.0
    logs.configure("json", "info", out)
    limited = logs.RateLimited(logs.get_logger(node=1), lambda: now)
    for _ in range(5):
        limited.warning("refused", caller="a")
    limited.error("another")
    now += logs.LOG_INTERVAL_S
    limited.warning("refused", caller="b")
    limited.warning("refused", caller="c")
    first, other, later = lines(out)
    assert (first["event"], first["caller"], "suppressed" in first) == ("refused", "a", False)
    assert other["event"] == "another"
    assert (later["caller"], later["suppressed"]) == ("b", 4)


def test_libraries_log_once_a_second_for_each_logger() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out)
    for number in range(100):
        logging.getLogger("grpc").error("failed: %s", number)
    logging.getLogger("asyncio").error("failed as well")
    assert [line["event"] for line in lines(out)] == ["failed: 0", "failed as well"]
