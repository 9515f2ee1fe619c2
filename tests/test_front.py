"""The package's public names, and hints for interactive use."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import pytest

import raftkv
from raftkv import errors
from raftkv.errors import RaftkvError

RAISED_ONLY_IN_A_NODE = {
    "AddressInUse": "a server that can't listen; the process ends with it",
    "DamagedBackup": "the file of a backup, which only the command reads",
    "DirectoryMismatch": "a node's data directory; the process ends with it",
    "OutOfService": "why a node stopped; its clients meet NotServing",
    "RemovedFromCluster": "why a node stopped; its clients meet ShuttingDown",
}
"""The errors that no public call raises, and why."""

PUBLIC_MODULES = (
    *("raftkv", "raftkv.recipes", "raftkv.recipes.sync"),
    *("raftkv.clocks", "raftkv.clocks.grpc_aio", "raftkv.clocks.grpc_sync"),
)


def errors_below(root: type[RaftkvError]) -> Iterator[type[RaftkvError]]:
    yield root
    for child in root.__subclasses__():
        yield from errors_below(child)


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of what the public modules offer, methods included."""
    for module in map(import_module, PUBLIC_MODULES):
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        for name in names:
            public = getattr(module, name)
            yield f"{module.__name__}.{name}", inspect.getdoc(public) or ""
            if not inspect.isclass(public) and not inspect.ismodule(public):
                continue
            for part, member in inspect.getmembers(public, callable):
                if not part.startswith("_") or part == "__init__":
                    yield f"{module.__name__}.{name}.{part}", inspect.getdoc(member) or ""


def test_the_package_lists_its_public_names() -> None:
    assert {"connect", "connect_sync", "RaftkvError", "op"} <= set(dir(raftkv))
    assert all(hasattr(raftkv, name) for name in dir(raftkv))
    assert "import_module" not in dir(raftkv)


def test_a_client_that_was_not_awaited_says_how_to_get_one() -> None:
    with pytest.raises(AttributeError, match=r"'get'.*async with.*await raftkv\.connect"):
        raftkv.connect("127.0.0.1:1").get("k")  # type: ignore[attr-defined]


def test_an_outcome_prints_as_words_and_is_a_number_on_the_wire() -> None:
    assert str(raftkv.Outcome.MAYBE_APPLIED) == f"{raftkv.Outcome.MAYBE_APPLIED}" == "maybe applied"
    assert [int(outcome) for outcome in raftkv.Outcome] == [0, 1, 2]


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'raftkv' has no attribute 'ToStale'"):
        raftkv.ToStale  # type: ignore[attr-defined]  # noqa: B018


def test_a_star_import_brings_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from raftkv import *", names)
    assert set(dir(raftkv)) <= names.keys()


@pytest.mark.parametrize(
    ("use", "kept_out"),
    [
        ("import raftkv", ("ast", "asyncio", "grpc", "google.protobuf", "raftkv.errors")),
        ("import raftkv; raftkv.NoLeader", ("grpc", "google.protobuf", "raftkv.client")),
        ("import raftkv; raftkv.FencingGuard", ("grpc", "google.protobuf", "raftkv.client")),
        ("from raftkv import op, when", ("grpc", "raftkv.client.client")),
        ("import raftkv.server.process", ("raftkv.client.client", "raftkv.client.sync")),
        (
            "import raftkv; [getattr(raftkv, name) for name in dir(raftkv)]",
            ("grpc", "rocksdict", "structlog", "typer", "rich", "raftkv.server", "raftkv.node"),
        ),
    ],
)
def test_a_name_is_imported_at_its_first_use(use: str, kept_out: tuple[str, ...]) -> None:
    shown = f"import sys; print(*(name for name in {kept_out!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{use}; {shown}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_every_error_that_a_public_call_may_raise_is_exported() -> None:
    declared = {
        each.__name__ for each in errors_below(RaftkvError) if each.__module__ == errors.__name__
    }
    assert declared - set(dir(raftkv)) == set(RAISED_ONLY_IN_A_NODE)
    assert all(
        getattr(raftkv, name) is getattr(errors, name) for name in declared & set(dir(raftkv))
    )


def test_every_error_that_a_public_docstring_names_is_exported() -> None:
    declared = {each.__name__ for each in errors_below(RaftkvError)}
    named = {
        (error, where)
        for where, docstring in public_docstrings()
        for error in re.findall(r"`(?:raftkv\.)?(\w+)`", docstring)
        if error in declared
    }
    assert {error for error, _ in named} > {"StorageError", "ClockDrift", "DirectoryInUse"}
    assert [each for each in sorted(named) if each[0] not in dir(raftkv)] == []
