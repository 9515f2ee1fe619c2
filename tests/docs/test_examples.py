"""Every code block of the README and of docs/ runs against a real `raftkv dev`.

One test for each document, as the blocks of a document build on each other and pytest-xdist may
hand the items of one file to several workers.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.conftest import DevCluster
from tests.docs.examples import ROOT, Runner, documents, parse, printed_codes, shell_source


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def with_examples() -> list[object]:
    return [pytest.param(path, id=name_of(path)) for path in documents() if list(parse(path))]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("path", with_examples())
def test_the_examples_of_a_document_run(path: Path, dev_cluster: DevCluster) -> None:
    runner = Runner(dev_cluster.directory, dev_cluster.environment, dev_cluster.with_own_addresses)
    runner.run(path)
    assert runner.ran, runner.skipped


@pytest.mark.cluster
def test_the_first_five_minutes_of_the_readme_are_as_it_says(dev_cluster: DevCluster) -> None:
    """The quick part, run by default: start, use, kill the leader, go on, and the first program."""
    runner = Runner(dev_cluster.directory, dev_cluster.environment, dev_cluster.with_own_addresses)
    runner.run(ROOT / "README.md", before="## Locks, leaders, watches")
    assert runner.ran == 4


def test_every_code_block_has_a_language_that_is_run_or_known_as_text() -> None:
    """A block without a language, or under another name of a shell, would never be run."""
    allowed = {"sh", "python", "text", "toml", "mermaid"}
    for path in documents():
        opened = False
        for line in path.read_text().splitlines():
            fence = re.match(r"\s*```(\S*)", line)
            if fence:
                assert opened or fence[1] in allowed, f"{name_of(path)}: {line!r}"
                opened = not opened


def test_a_block_is_left_out_only_for_a_stated_reason() -> None:
    for path in documents():
        for skip in re.findall(r"<!--+ skip:.*-->", path.read_text()):
            assert re.fullmatch(r'<!-- skip: next "[^"]{20,}" -->', skip), f"{path.name}: {skip}"


def test_announced_exit_codes_are_compared() -> None:
    script, codes = shell_source("false; echo $?   # 1: it fails\ntrue\n")
    assert codes == [1]
    assert "set +eo pipefail" in script
    assert printed_codes("@@code\n1\n@@end\n") == ["1"]


def test_a_command_that_runs_until_ctrl_c_is_interrupted() -> None:
    script, _ = shell_source("raftkv watch a   # until Ctrl-C\n")
    assert "timeout --foreground --preserve-status -s INT 2.5 raftkv watch a" in script
