"""The documents name only files, classes and functions that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.names import ROOT, missing, spans

PAGE = ROOT / "docs" / "architecture.md"
NAMING = [PAGE, ROOT / "docs" / "internals.md", ROOT / "docs" / "testing.md"]
NAMING += [ROOT / "docs" / "glossary.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.name)
def test_every_name_of_code_in_the_document_exists(path: Path) -> None:
    found = [what for span in spans(path.read_text()) if (what := missing(span))]
    assert not found, "\n" + "\n".join(found)


def test_the_architecture_page_names_code_and_is_short() -> None:
    text = PAGE.read_text()
    assert len(text.splitlines()) <= 150
    assert sum(".py:" in span for span in spans(text)) > 40


@pytest.mark.parametrize(
    "span",
    [
        *("raft/no_such.py", "raft/raft.py:Raft.no_such", "no_such/", "raft/raft.py:no_such"),
        "Raft.no_such",
    ],
)
def test_a_name_that_does_not_exist_is_found(span: str) -> None:
    assert missing(span)


@pytest.mark.parametrize(
    "span", ["raft/raft.py:Raft.step", "client/", "Raft.step", "raftkv put", "a.b", "3 / 4"]
)
def test_a_name_that_exists_and_what_is_no_name_are_not(span: str) -> None:
    assert not missing(span)
