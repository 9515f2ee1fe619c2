"""Starts servers of trials on a copy of the tree, and talks to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from jepsen_lite.mutation.candidates import Target
from jepsen_lite.mutation.trial import TrialEnd
from jepsen_lite.mutation.trial_server import ServerOrder, TrialRequest

TESTS, SIMULATOR = "pytest_server", "simulator_server"
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "jepsen-store", "node_modules")


class ServerDied(Exception):
    """The server ended before it answered; the message is what it wrote last."""


@contextmanager
def copied(target: Target) -> Iterator[Target]:
    """The same target in a temporary copy, so that nobody's edits disturb the trials."""
    with tempfile.TemporaryDirectory(prefix="jepsen-lite-tree-") as directory:
        root = Path(directory).resolve() / "tree"
        shutil.copytree(target.root, root, ignore=NOT_COPIED)
        yield replace(target, root=root)


class ServerProcess:
    """One server, ready for requests when constructed; ends with its context."""

    def __init__(self, module: str, order: ServerOrder) -> None:
        root = order.target.root
        # jepsen_lite comes from where this program runs if the tree has none.
        path = [str(root), str(root / "jepsen-lite"), str(Path(__file__).parents[2])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"jepsen_lite.mutation.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=root,
            env=environment,
        )
        self._write(order.to_json())
        if not order.records:
            self._read()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server. A trial under way ends with it."""
        self._process.terminate()
        self._process.communicate()
        self._errors.close()

    def request(self, request: TrialRequest) -> TrialEnd:
        """Have one trial carried out."""
        self._write(request.to_json())
        return TrialEnd(**self._read())

    def recorded(self) -> Iterator[dict[str, Any]]:
        """The answers of a server that records, until it has ended."""
        while "ended" not in (answer := self._read()):
            yield answer

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise ServerDied(self._errors.read()[-2000:].decode(errors="replace"))
        answer: dict[str, Any] = json.loads(line)
        return answer
