"""The standard streams of a command: open, in UTF-8, and with a record of failed writes."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from raftkv.cli.exit_codes import ExitCode
from raftkv.errors import InvalidRequest

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """Descriptor 1 or 2. Writes never raise: after the first failure all output is discarded.

    So a failed write does not abort a command, and the exit code can report what was done.
    """

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            while self.failure is None:
                written: int | None = super().write(data)
                if written is not None:
                    return written
                # Another process has made the shared pipe or terminal non-blocking.
                select.select([], [self], [])
        except OSError as failure:
            self.failure = failure
        return memoryview(data).nbytes


_stdout: _Output | None = None


def prepare() -> None:
    """Set up the three streams. Must run first: a file opened later must not get the descriptor of
    a closed stream.
    """
    global _stdout
    # /dev/null in the wrong direction: reading or writing fails as on the closed descriptor. `open`
    # returns the lowest free number, so each gets its own; a child process inherits it closed.
    for descriptor, wrong_direction in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        if _is_closed(descriptor):
            os.open(os.devnull, wrong_direction)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    _stdout = _Output(1, "w", closefd=False)
    sys.stdout = _text(_stdout)
    sys.stderr = _text(_Output(2, "w", closefd=False))


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


def _text(output: _Output) -> io.TextIOWrapper:
    # In any locale: an argument that is not valid in its encoding is printed byte for byte.
    return io.TextIOWrapper(
        io.BufferedWriter(output), "utf-8", "surrogateescape", line_buffering=output.isatty()
    )


def output_failed() -> bool:
    """Whether output has failed, so that a command that prints events can stop."""
    return _stdout is not None and _stdout.failure is not None


def reader_gone() -> bool:
    """Whether output has failed because the pipe's reader or the terminal is gone."""
    failure = _stdout.failure if _stdout is not None else None
    return failure is not None and failure.errno in (errno.EPIPE, errno.EIO)


def read_stdin() -> bytes:
    """All of standard input. Raises `InvalidRequest` if it can't be read."""
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise InvalidRequest(
            f"standard input can't be read ({error.strerror}), and nothing was sent; give the value"
            " as an argument, or redirect standard input from a file or pipe"
        ) from None


def exit_code(code: int) -> int:
    """The exit code of the command: a failed output changes only a successful one."""
    sys.stdout.flush()
    failure = _stdout.failure if _stdout is not None else None
    if failure is None:
        return code
    if failure.errno == errno.EPIPE:
        return code or ExitCode.READER_GONE
    sys.stderr.write(
        f"error: the output can't be written ({failure.strerror});"
        f" {'the command has been carried out' if not code else f'the exit code is {code}'}\n"
    )
    return code or ExitCode.OUTPUT_LOST
