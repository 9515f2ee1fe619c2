"""Runs work in a forked child, with a time limit for each step of it.

The child inherits what the parent has imported, so a trial costs no start of an interpreter.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from jepsen_lite.mutation.plant import Unplantable

MEMORY_BYTES_MAX = 3 << 30
START_S_MAX = 60.0
LOOK_EVERY_S = 3.0
IDLE_CPU_S = 0.05


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """How a trial ended. `step` is the test or the seed that noticed, "" if none did."""

    verdict: str
    step: str
    detail: str
    steps: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


SURVIVED, KILLED, TIMEOUT, UNPLANTABLE = "survived", "killed", "timeout", "unplantable"


class ChildReport:
    """What the child sends to its parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def begins(self, step: str, limit_s: float) -> None:
        """The step begins, and must end within `limit_s`."""
        self._send(begins=step, limit_s=limit_s)

    def failed(self, detail: str) -> None:
        """The step that began last has noticed the mutation."""
        self._send(failed=detail)

    def unplantable(self, detail: str) -> None:
        """The mutation can't be planted in a process that has imported its module."""
        self._send(unplantable=detail)

    def ended(self) -> None:
        """All steps have ended."""
        self._send(ended=True)

    def _send(self, **message: object) -> None:
        os.write(self._descriptor, json.dumps(message).encode() + b"\n")


def run_forked(work: Callable[[ChildReport], None]) -> TrialEnd:
    """Run `work` in a child process; its end ends all that it has started."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiver)
        _work_and_exit(work, ChildReport(sender))
    os.close(sender)
    try:
        return _supervised(child, receiver)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(receiver)


def _work_and_exit(work: Callable[[ChildReport], None], report: ChildReport) -> NoReturn:
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        work(report)
        report.ended()
    except Unplantable as error:
        report.unplantable(str(error))
    except BaseException as error:  # noqa: BLE001 - whatever ends the work is its result
        with suppress(OSError):
            report.failed(f"{type(error).__name__}: {error}"[:500])
    finally:
        os._exit(0)


def _supervised(child: int, receiver: int) -> TrialEnd:
    step, steps, watch = "", 0, _Watch(child, START_S_MAX)
    buffer = b""
    while True:
        ready, _, _ = select.select([receiver], [], [], watch.wait_s)
        if not ready:
            if watch.too_long():
                return TrialEnd(TIMEOUT, step, "did not end in time", steps)
            continue
        received = os.read(receiver, 1 << 16)
        if not received:
            return TrialEnd(KILLED, step, "the process died", steps)
        *lines, buffer = (buffer + received).split(b"\n")
        for message in map(json.loads, lines):
            if "unplantable" in message:
                return TrialEnd(UNPLANTABLE, step, message["unplantable"], steps)
            if "failed" in message:
                return TrialEnd(KILLED, step, message["failed"], steps)
            if "ended" in message:
                return TrialEnd(SURVIVED, "", "", steps)
            step, steps = message["begins"], steps + 1
            watch = _Watch(child, message["limit_s"])


class _Watch:
    """The time limit of one step of a child.

    On a busy machine the child may get little CPU time. So after `limit_s` the step may go on while
    it uses the processor, until it has used `limit_s` of it, or ten times as long has passed.
    """

    def __init__(self, child: int, limit_s: float) -> None:
        self._child, self._limit_s = child, limit_s
        self._began_s = time.monotonic()
        self._began_cpu_s, self._seen_cpu_s = _cpu_s(child), -math.inf
        self.wait_s = limit_s
        """When to ask again whether it takes too long."""

    def too_long(self) -> bool:
        now_s, cpu_s = time.monotonic(), _cpu_s(self._child)
        idle = cpu_s - self._seen_cpu_s < IDLE_CPU_S
        self._seen_cpu_s, self.wait_s = cpu_s, LOOK_EVERY_S
        return (
            idle
            or cpu_s - self._began_cpu_s > self._limit_s
            or now_s - self._began_s > 10 * self._limit_s
        )


def _cpu_s(process: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
