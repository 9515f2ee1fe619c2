"""The transcripts in scenarios/ still read as they did."""

from __future__ import annotations

import pytest

from tests.raft.transcript import SCENARIOS, transcribe

PATHS = sorted(SCENARIOS.glob("*.txt"))


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_the_core_behaves_as_the_transcript_says(path) -> None:
    """After a change that is meant to be:  python -m tests.raft.transcript --rewrite"""
    expected = path.read_text()
    assert transcribe(expected) == expected


def test_there_are_transcripts() -> None:
    assert len(PATHS) >= 7
