"""The synchronous twin is the asynchronous client, method for method."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import raftkv
from raftkv.client.client import Client
from raftkv.client.sync.client import SyncClient
from raftkv.client.sync.portal import shared_portal
from raftkv.errors import ConfigurationError, NoLeader, WrongLoop

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


def load_table() -> Any:
    """The table of gensync, which says what has a twin. The scripts are no package of ours."""
    spec = importlib.util.spec_from_file_location(
        "gensync_table", SCRIPTS / "gensync_lib" / "table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


table = load_table()
TWINS = {
    item.name: (item, module)
    for module in table.MODULES
    for item in module.items
    if isinstance(item, table.Twin)
}

# What hands out an object has a twin of that object, so the types differ; all else must be equal.
HANDS_OUT_TWINS = {
    *("transaction", "watch", "lease", "keep", "lock", "election"),
    *("scan", "scan_prefix", "delete_range_in_pages", "delete_prefix_in_pages"),
}
SYNCHRONOUS_TYPES = (
    (r"Coroutine\[Any, Any, (.+)\]", r"\1"),
    (r"AsyncGenerator\[(.+), None\]", r"Iterator[\1]"),
    (r"AsyncIterator\[(.+)\]", r"Iterator[\1]"),
)
ONLY_ASYNCHRONOUS = re.compile(
    r"\b(await|async|asyncio|coroutine|event loops?|tasks?)\b", re.IGNORECASE
)


def public_methods(cls: type) -> dict[str, object]:
    return {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def original_of(twin: Any) -> Any:
    module, _, name = twin.original.partition(":")
    return getattr(importlib.import_module(module), name)


def twin_class(name: str) -> Any:
    module = TWINS[name][1].path.removesuffix(".py").replace("/", ".")
    return getattr(importlib.import_module(module), name)


def alike(docstring: str | None) -> str:
    """The words of a docstring, without what tells an asynchronous call from a synchronous one."""
    text = re.sub(r"\s+", " ", re.sub(r"\b(await|async)\s+", "", docstring or ""))
    text = re.sub(
        r"\b([Tt])ask(s?)\b",
        lambda found: {"t": "thread", "T": "Thread"}[found[1]] + found[2],
        text,
    )
    text = re.sub(r"\bconnect_sync\b", "connect", re.sub(r"\brecipes\.sync\b", "recipes", text))
    text = text.replace(
        "raftkv's own thread, so it must be quick and may not call the client.",
        "the client's loop.",
    )
    return re.sub(r"\bSync(?=[A-Z])", "", text).strip()


def same(actual: str | None, wanted: str | None, otherwise: Mapping[str, str]) -> bool:
    """Whether the twin's docstring says what the original's does, but for what the table names."""
    expected = alike(wanted)
    for words, instead in otherwise.items():
        expected = expected.replace(alike(words), alike(instead)).replace("  ", " ").strip()
    return alike(actual) == expected


def test_the_twin_has_the_same_methods_and_signatures() -> None:
    asynchronous, synchronous = public_methods(Client), public_methods(SyncClient)
    assert asynchronous.keys() == synchronous.keys()
    for name, method in asynchronous.items():
        twin = synchronous[name]
        actual, wanted = inspect.signature(twin), inspect.signature(method)  # type: ignore[arg-type]
        if name in HANDS_OUT_TWINS:
            assert list(actual.parameters) == list(wanted.parameters), name
        else:
            assert actual == wanted, name


@pytest.mark.parametrize("name", TWINS)
def test_a_twins_members_have_the_signatures_and_docstrings_of_the_original(name: str) -> None:
    spec = TWINS[name][0]
    original, twin = original_of(spec), twin_class(name)
    assert same(twin.__doc__, original.__doc__, spec.docstring), name
    members = [member for member in vars(twin) if not member.startswith("_")]
    assert members or spec.code
    for member in members:
        actual, wanted = vars(twin)[member], getattr(original, member, None)
        if isinstance(actual, property):
            text = actual.fget.__doc__ if actual.fget else None
            documented = wanted.__doc__ if isinstance(wanted, property) else text  # or an attribute
        elif callable(actual):
            text, documented = actual.__doc__, wanted.__doc__
            parameters = inspect.signature(actual).parameters
            kept = {
                parameter: each
                for parameter, each in inspect.signature(wanted).parameters.items()
                if parameter not in spec.without.get(member, ())
            }
            assert list(parameters) == list(kept), member
            for parameter, each in kept.items():
                mine = parameters[parameter]
                assert (mine.kind, mine.default) == (each.kind, each.default), member
                if each.annotation is not each.empty:
                    assert alike(mine.annotation) == alike_type(each.annotation), member
            returns = inspect.signature(wanted).return_annotation
            assert alike(inspect.signature(actual).return_annotation) == alike_type(returns), member
        else:
            continue
        assert text, f"{name}.{member} has no docstring"
        assert same(text, documented, spec.docstring), f"{name}.{member}: {text}"


def alike_type(annotation: str) -> str:
    for pattern, instead in (*SYNCHRONOUS_TYPES, (r"Awaitable\[(\w+)\]", r"\1")):
        annotation = re.sub(pattern, instead, annotation)
    return alike(annotation)


def test_connect_sync_says_what_connect_does() -> None:
    actual, wanted = (inspect.signature(each) for each in (raftkv.connect_sync, raftkv.connect))
    simulators = {"links", "rng"}
    assert list(actual.parameters) == [name for name in wanted.parameters if name not in simulators]
    paragraphs = (raftkv.connect.__doc__ or "").split("\n\n")
    kept = [each for each in paragraphs if not each.strip().startswith("`links`")]
    assert len(kept) == len(paragraphs) - 1
    assert same(raftkv.connect_sync.__doc__, "\n\n".join(kept), {})


@pytest.mark.parametrize("name", TWINS)
def test_every_argument_of_a_public_call_is_explained(name: str) -> None:
    original = original_of(TWINS[name][0])
    unexplained = [
        f"{name}.{method}({parameter})"
        for method, actual in vars(twin_class(name)).items()
        if inspect.isfunction(actual) and not method.startswith("_")
        for parameter in inspect.signature(actual).parameters
        if parameter != "self" and f"`{parameter}`" not in (getattr(original, method).__doc__ or "")
    ]
    assert not unexplained


def test_no_twin_speaks_of_what_only_an_event_loop_has() -> None:
    found = []
    for name in TWINS:
        cls = twin_class(name)
        docstrings = {name: cls.__doc__ or ""}
        for member in vars(cls):
            docstrings[f"{name}.{member}"] = getattr(cls, member).__doc__ or ""
        for where, text in docstrings.items():
            if where == "SyncClient":
                text = text.replace("For code without an event loop.", "")
            if word := ONLY_ASYNCHRONOUS.search(text):
                found.append(f"{where} says {word[0]}")
    assert not found, "\n".join(found)


def test_what_docstrings_name_is_exported() -> None:
    docstrings = [raftkv.connect_sync.__doc__ or ""]
    for name in TWINS:
        cls = twin_class(name)
        docstrings += [getattr(cls, member).__doc__ or "" for member in ("__class__", *vars(cls))]
    named = {name for text in docstrings for name in re.findall(r"\braftkv\.(\w+)", text)}
    assert {"SyncTransaction", "bounded", "connect_sync"} <= named
    assert not {name for name in named if not hasattr(raftkv, name)}


def copy_of_the_source(root: Path) -> None:
    for package in ("client", "recipes"):
        shutil.copytree(
            ROOT / "raftkv" / package,
            root / "raftkv" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gensync_lib", "--check", "--root", root]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_gensync_finds_the_committed_twins_as_their_source_says() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("raftkv/client/api/kv.py", "prev_kv: bool = False", "prev_kv: bool = True"),
        ("raftkv/client/api/kv.py", "Set `key` to", "Sets `key` to"),
        ("raftkv/client/sync/client.py", "_portal.hold", "_portal.call"),
        ("raftkv/recipes/counter.py", "async def get(", "async def look("),
    ],
)
def test_gensync_check_notices_a_change(tmp_path: Path, path: str, before: str, after: str) -> None:
    copy_of_the_source(tmp_path)
    changed = tmp_path / path
    text = changed.read_text()
    assert before in text
    changed.write_text(text.replace(before, after))
    done = check(tmp_path)
    assert done.returncode == 1
    assert "run scripts/gensync" in done.stderr
    assert "--- " in done.stderr
    assert changed.read_text() == text.replace(before, after), "--check writes nothing"


def test_a_portal_returns_and_raises_what_the_coroutine_does() -> None:
    async def failing() -> None:
        raise NoLeader("no leader")

    async def named() -> str:
        return threading.current_thread().name

    with pytest.raises(NoLeader):
        shared_portal().call(failing)
    assert shared_portal().call(named) == "raftkv-client"


def test_many_threads_share_one_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def running() -> None:
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=lambda: shared_portal().call(running)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops) == 8
    assert len(set(map(id, loops))) == 1


def test_the_portals_own_loop_may_not_wait_for_itself() -> None:
    async def nothing() -> None:
        return

    async def waiting() -> None:
        shared_portal().call(nothing)

    with pytest.raises(WrongLoop, match="own thread"):
        shared_portal().call(waiting)


def test_connecting_to_no_address_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        raftkv.connect_sync("nowhere")
