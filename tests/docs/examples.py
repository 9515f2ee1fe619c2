"""How the code blocks of a document are found and run.

The blocks of a document run in order against one cluster and in one working directory, each in a
process of its own. Three conventions make them executable as they stand:

- `command; echo $?   # 3: why` fails unless the last line printed begins with that number.
- A line whose comment names Ctrl-C is interrupted (SIGINT) after some seconds and must end with 0.
- `<!-- skip: next "reason" -->` before a block leaves it out. The reason is required. An
  `<!-- invisible-code-block: sh` does what a reader is told to do by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).parents[2]
BLOCK_S_MAX = 60
EXPECTED_CODE = re.compile(r"echo \$\?|PIPESTATUS")
INTERRUPTED_AFTER_S = 2.5

Shell = Callable[[str], subprocess.CompletedProcess[str]]


def shell_source(source: str) -> tuple[str, list[int]]:
    """The block for `bash`, and the exit codes that its comments announce, in order."""
    lines, codes = ["set -euo pipefail"], []
    for line in source.splitlines():
        command, _, comment = line.partition("  #")
        if EXPECTED_CODE.search(command):
            announced = re.match(r"\s*(\d+)", comment)
            assert announced is not None, f"{line!r} prints an exit code: say which in a comment"
            codes.append(int(announced[1]))
            lines += ["set +eo pipefail", "echo '@@code'", line, "echo '@@end'", "set -eo pipefail"]
        elif "Ctrl-C" in comment:
            # Without `--foreground` the command gets a second signal, with that of its group.
            options = "--foreground --preserve-status -s INT"
            lines.append(f"timeout {options} {INTERRUPTED_AFTER_S} {command}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n", codes


def printed_codes(output: str) -> list[str]:
    """What was printed last by each line that prints an exit code."""
    parts = re.findall(r"@@code\n(.*?)@@end", output, flags=re.DOTALL)
    return [(part.strip().splitlines() or [""])[-1] for part in parts]


def run_shell(source: str, run: Shell) -> str:
    """Run a block; what is wrong with it, or an empty text."""
    script, codes = shell_source(source)
    done = run(script)
    said = f"\n{done.stdout}{done.stderr}"
    if done.returncode:
        return f"the block ended with {done.returncode}:{said}"
    found = printed_codes(done.stdout)
    if found != [str(code) for code in codes]:
        return f"the comments announce {codes}, and {found} was printed:{said}"
    return ""


class Runner:
    """Runs the blocks of one document in a working directory and an environment."""

    def __init__(
        self, directory: Path, environment: dict[str, str], adapt: Callable[[str], str]
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._adapt = adapt
        self.ran = 0
        self.skipped: list[str] = []

    def run(self, path: Path, before: str = "") -> None:
        """Run every block, or those before that heading; raises at the first that fails."""
        lines = path.read_text().splitlines()
        end = lines.index(before) if before else len(lines)
        for example in parse(path, self._sh, self._python):
            if example.line > end:
                return
            try:
                example.evaluate()
            except Exception as error:
                if type(error).__name__ != "SkipTest":
                    raise AssertionError(f"{path.name}, line {example.line}: {error}") from error
                self.skipped.append(str(error))

    def _sh(self, example: Example) -> str:
        self.ran += 1
        return run_shell(
            self._adapt(example.parsed), lambda script: self._execute(["bash", "-c", script])
        )

    def _python(self, example: Example) -> str:
        """In a process of its own: an example may fork, handle signals or run its own loop."""
        self.ran += 1
        script = self._directory / "example.py"
        script.write_text(self._adapt(textwrap.dedent(example.parsed)))
        done = self._execute([sys.executable, "-W", "error::ResourceWarning", str(script)])
        return f"{done.stdout}{done.stderr}" if done.returncode else ""

    def _execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self._directory,
            env=self._environment,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BLOCK_S_MAX,
        )


def parse(
    path: Path,
    shell: Callable[[Example], str] = lambda _: "",
    python: Callable[[Example], str] = lambda _: "",
) -> Document:
    """The document's blocks, each with what runs it."""
    parsers = [CodeBlockParser("sh", shell), CodeBlockParser("python", python), SkipParser()]
    return Sybil(parsers=parsers).parse(path)


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
