"""docs/compatibility.md says what the code does."""

from __future__ import annotations

import re

import pytest

from raftkv import errors
from raftkv.errors import Outcome, RaftkvError
from raftkv.storage.identity import FORMAT_VERSION, decode_identity
from raftkv.versions import SUPPORTED
from tests.packaging.conftest import ROOT
from tests.packaging.public_api import BASELINE, MODULES

PAGE = " ".join((ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8").split())


def test_the_page_names_the_cluster_versions_and_the_format_of_this_program() -> None:
    assert f"takes part in clusters of the versions {SUPPORTED}." in PAGE
    assert f"This program writes format {FORMAT_VERSION}, and reads formats 1 and 2." in PAGE
    assert decode_identity(b'{"format_version": 3}') == 3, "another format is none of ours"


def test_the_page_names_every_public_module_and_its_baseline() -> None:
    assert all(f"`{module}`" in PAGE or f"`dir({module})`" in PAGE for module in MODULES)
    assert f"`{BASELINE.relative_to(ROOT)}/`" in PAGE


@pytest.mark.parametrize("outcome", Outcome)
def test_an_error_with_an_unknown_reason_is_known_by_its_outcome(outcome: Outcome) -> None:
    error = errors.from_wire("OF_A_LATER_RELEASE", "text", outcome, 0.0, {})
    assert (type(error), error.outcome) == (RaftkvError, outcome)


def test_what_holds_a_promise_is_there() -> None:
    held_by = re.findall(r"`(tests/[\w./]+|scripts/[\w-]+)", PAGE)
    assert held_by
    assert [each for each in held_by if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("folder", [".", "jepsen-lite"])
def test_the_oldest_grpcio_and_protobuf_are_those_that_the_generated_code_takes(
    folder: str,
) -> None:
    generated = ROOT / "raftkv" / "rpc" / "v1"
    grpcio = re.search(
        r"GRPC_GENERATED_VERSION = '(.+)'", (generated / "api_pb2_grpc.py").read_text()
    )
    protobuf = re.search(
        r"Domain\.PUBLIC,\s+(\d+),\s+(\d+),\s+(\d+),", (generated / "kv_pb2.py").read_text()
    )
    assert grpcio
    assert protobuf
    required = (ROOT / folder / "pyproject.toml").read_text()
    assert f'"grpcio>={grpcio[1]},<2"' in required
    assert f'"protobuf>={".".join(protobuf.groups())},<8"' in required
