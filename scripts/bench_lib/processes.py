"""Server processes of a benchmark: started by us, measured through /proc, stopped by pid.

Knows Linux' /proc and nothing of what the processes do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server ended by itself or never became ready; the message says where to look."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one process: now, and the most it ever was."""

    rss_bytes: int
    rss_bytes_peak: int


class ServerProcess:
    """One server: its command, its log file, and at most one running process."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running process; raises RuntimeError if there is none."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                # Ctrl-C belongs to the benchmark, which then stops its servers in order.
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self, patience_s: float = 10.0) -> None:
        """SIGTERM; SIGKILL if that is not heard."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def check_alive(self) -> None:
        """Raise ServerFailed with the end of the log if the process has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise ServerFailed(f"{self.name} ended with status {self._process.returncode}:\n{tail}")


def cpu_seconds(pid: int) -> float:
    """User and system time that the process and its threads have used."""
    # The command name, in brackets, may hold spaces: count fields from its end.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S


def machine_cpu_seconds() -> float:
    """CPU time that everything on this machine has used, stolen time of a virtual one included."""
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / CLOCK_TICKS_PER_S


def memory(pid: int) -> Memory:
    """Resident memory from /proc/<pid>/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return Memory(int(kilobytes["VmRSS"]) << 10, int(kilobytes["VmHWM"]) << 10)


def directory_bytes(path: Path) -> int:
    """What the files below `path` take on disk; files that vanish meanwhile count nothing."""
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def remove_directory(path: Path) -> None:
    """Delete the data of a finished measurement and let the disk come to rest.

    Without the sync the next measurement would pay for this one's dirty pages.
    """
    shutil.rmtree(path, ignore_errors=True)
    os.sync()
