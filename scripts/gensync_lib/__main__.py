"""The command: write the synchronous twins, or compare them with what is committed."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from gensync_lib.generator import ROOT, Generator


def main(arguments: Sequence[str]) -> int:
    """Write the twins, or compare them with what is there."""
    parser = argparse.ArgumentParser(description="Generate the synchronous twins.")
    parser.add_argument("--check", action="store_true", help="fail if what is there differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args(arguments)
    differs = False
    for path, text in Generator(options.root).modules():
        present = path.read_text() if path.exists() else ""
        if not options.check:
            path.write_text(text)
        elif text != present:
            differs = True
            lines = (present.splitlines(True), text.splitlines(True))
            sys.stderr.writelines(difflib.unified_diff(*lines, str(path), "scripts/gensync"))
    if differs:
        print("the twins are not what their source says: run scripts/gensync", file=sys.stderr)
    return int(differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
