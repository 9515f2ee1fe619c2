"""The files that CONTRIBUTING.md and SECURITY.md send their readers to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IN_BACKTICKS = re.compile(r"`((?:raftkv|tests|docs|scripts|proto|jepsen-lite)/[\w./-]+)`")
LINKED = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_every_path_in_the_page_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    paths = {*IN_BACKTICKS.findall(text), *LINKED.findall(text)}
    assert paths, f"{page} names no file"
    assert {path for path in paths if not (ROOT / path).exists()} == set()
