"""The layers, names and sizes that CONTRIBUTING.md promises hold, and the checks can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What each part may import of raftkv, besides itself. A name covers everything below it.
ALLOWED: dict[str, frozenset[str]] = {
    "raftkv.errors": frozenset(),
    "raftkv.rpc": frozenset(),
    "raftkv.versions": frozenset(),
    "raftkv.metrics": frozenset(),
    "raftkv.backoff": frozenset(),
    "raftkv.files": frozenset({"raftkv.errors"}),
    "raftkv.arguments": frozenset({"raftkv.errors"}),
    "raftkv.certs": frozenset({"raftkv.errors", "raftkv.tls.names"}),
    "raftkv.fencing": frozenset({"raftkv.errors", "raftkv.arguments", "raftkv.files"}),
    "raftkv.clocks": frozenset({"raftkv.errors", "raftkv.arguments", "raftkv.files"}),
    "raftkv.logs": frozenset({"raftkv.errors", "raftkv.clocks"}),
    "raftkv.raft": frozenset({"raftkv.errors", "raftkv.versions"}),
    "raftkv.wire": frozenset({"raftkv.errors", "raftkv.rpc"}),
    "raftkv.wire.membership": frozenset(
        {"raftkv.errors", "raftkv.rpc", "raftkv.raft.entry", "raftkv.wire.canonical"}
    ),
    # The only module of raftkv.wire that imports grpc.
    "raftkv.wire.grpc_status": frozenset({"raftkv.errors", "raftkv.rpc"}),
    "raftkv.tls": frozenset(
        {"raftkv.errors", "raftkv.files", "raftkv.logs", "raftkv.wire.addresses"}
    ),
    "raftkv.tls.names": frozenset(),
    "raftkv.config_checks": frozenset({"raftkv.errors", "raftkv.tls.names"}),
    "raftkv.config": frozenset(
        {
            *("raftkv.errors", "raftkv.wire.addresses", "raftkv.kv.limits", "raftkv.raft.entry"),
            *("raftkv.config_checks", "raftkv.tls.names"),
        }
    ),
}
WIRE_OF_CLIENTS = {
    f"raftkv.wire.{module}"
    for module in ("addresses", "failures", "grpc_status", "lock_keys", "ranges")
}
ALLOWED["raftkv.kv"] = frozenset(
    {"raftkv.errors", "raftkv.rpc", "raftkv.raft", "raftkv.versions", "raftkv.wire"}
)
ALLOWED["raftkv.config_sources"] = ALLOWED["raftkv.config"] | {"raftkv.config"}
BELOW_NODE = ALLOWED["raftkv.kv"] | {
    *("raftkv.kv", "raftkv.files", "raftkv.clocks", "raftkv.logs", "raftkv.versions"),
    "raftkv.metrics",
}
ALLOWED["raftkv.storage"] = BELOW_NODE
ALLOWED["raftkv.peer"] = BELOW_NODE | {"raftkv.backoff", "raftkv.storage.ports", "raftkv.tls"}
ALLOWED["raftkv.node"] = BELOW_NODE | {"raftkv.storage", "raftkv.peer", "raftkv.config"}
ALLOWED["raftkv.backup"] = BELOW_NODE | {"raftkv.storage", "raftkv.config"}
ALLOWED["raftkv.server"] = ALLOWED["raftkv.node"] | {
    *("raftkv.node", "raftkv.tls", "raftkv.http", "raftkv.config_sources")
}
# On a thread of its own: it reads what the node's event loop has published, and nothing else.
ALLOWED["raftkv.http"] = frozenset({"raftkv.errors", "raftkv.logs", "raftkv.metrics"})
ALLOWED["raftkv.client"] = frozenset(
    {
        *("raftkv.errors", "raftkv.arguments", "raftkv.backoff", "raftkv.rpc"),
        *("raftkv.clocks", *WIRE_OF_CLIENTS),
    }
)
ALLOWED["raftkv.recipes"] = ALLOWED["raftkv.client"] | {"raftkv.client"}
ALLOWED["raftkv.cli"] = frozenset({"raftkv"})
ALLOWED["raftkv.__main__"] = frozenset({"raftkv.cli"})
# The package's own front: `raftkv.connect` and the errors.
ALLOWED["raftkv"] = frozenset({"raftkv.client", "raftkv.errors", "raftkv.fencing"})

PURE = ("raftkv.raft", "raftkv.kv", "raftkv.wire", "raftkv.wire.membership")
IMPURE_MODULES = {
    *("asyncio", "threading", "multiprocessing", "socket", "logging"),
    *("time", "datetime", "random", "secrets", "uuid"),
    *("grpc", "rocksdict", "structlog"),
}
OF_THE_NODES_LOOP = {"grpc", "rocksdict"}
# gRPC stubs are transport; the message modules beside them are plain values.
WITH_GRPC = ("_pb2_grpc", "raftkv.wire.grpc_status")


def imports(source: str) -> Iterator[str]:
    """Dotted names that the source imports, wherever in it, except for type checkers only."""
    tree = ast.parse(source)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or "")
            else:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_hooks_of_pytest_are_where_pytest_looks_for_them() -> None:
    """In a test module they are never called, whatever it says of its loop."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert "def pytest_" not in path.read_text().replace('"def pytest_', ""), path


def covers(name: str, imported: str) -> bool:
    return imported == name or imported.startswith(name + ".")


def layer_of(module: str) -> str:
    return max((name for name in ALLOWED if covers(name, module)), key=len)


def violations(module: str, source: str) -> list[str]:
    """What `source`, as the module of that name, imports against the rules."""
    layer = layer_of(module)
    if layer == "raftkv" and module != "raftkv":
        return [f"{module} belongs to no layer: give it one here and in docs/architecture.md"]
    found = []
    for imported in imports(source):
        if imported.startswith("."):
            found.append(f"{module} imports {imported}: write absolute imports")
        elif covers("raftkv", imported):
            if not any(covers(name, imported) for name in (layer, *ALLOWED[layer])):
                found.append(f"{module} imports {imported}: {layer} is not above it")
            if layer in PURE and any(each in imported for each in WITH_GRPC):
                found.append(f"{module} imports {imported}: {layer} does no IO")
        elif layer in PURE and imported.split(".")[0] in IMPURE_MODULES:
            found.append(f"{module} imports {imported}: {layer} has no IO, time or chance")
        elif layer == "raftkv.http" and imported.split(".")[0] in OF_THE_NODES_LOOP:
            found.append(f"{module} imports {imported}: it runs on another thread")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "raftkv").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not covers("raftkv.rpc", name):
            yield name, path


def test_every_module_imports_only_the_layers_below_it() -> None:
    found = [line for name, path in modules() for line in violations(name, path.read_text())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("raftkv.raft.raft", "import time"),
        ("raftkv.raft.raft", "def tick():\n    from random import Random"),
        ("raftkv.raft.raft", "from raftkv.kv.machine import StateMachine"),
        ("raftkv.raft.raft", "from raftkv.rpc.v1 import log_pb2"),
        ("raftkv.kv.machine", "import grpc.aio"),
        ("raftkv.kv.machine", "from raftkv.rpc.v1 import api_pb2_grpc"),
        ("raftkv.kv.machine", "from raftkv.wire.grpc_status import status_of"),
        ("raftkv.wire.failures", "import grpc"),
        ("raftkv.wire.lock_keys", "from raftkv.kv.limits import Limits"),
        ("raftkv.wire.membership", "from raftkv.raft.raft import Raft"),
        ("raftkv.client.client", "from raftkv.wire.membership import decode_membership"),
        ("raftkv.storage.log", "from raftkv.node.node import Node"),
        ("raftkv.node.node", "from raftkv.server.process import Server"),
        ("raftkv.client.client", "from raftkv.kv.limits import Limits"),
        ("raftkv.client.client", "import raftkv.raft.entry"),
        ("raftkv.client.client", "from raftkv import kv"),
        ("raftkv.server.process", "from ..cli import main"),
        ("raftkv.http.app", "from raftkv.node.node import Node"),
        ("raftkv.http.app", "from raftkv.storage.rocks import RocksDatabase"),
        ("raftkv.http.server", "import grpc.aio"),
        ("raftkv.http.server", "from rocksdict import Rdict"),
        ("raftkv.misc", "import os"),
    ],
)
def test_an_import_against_the_rules_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("raftkv.kv.machine", "from raftkv.rpc.v1 import kv_pb2, log_pb2\nimport heapq"),
        ("raftkv.kv.machine", "if TYPE_CHECKING:\n    from raftkv.storage.ports import LogStore"),
        ("raftkv.server.process", "from raftkv.node.node import Node\nimport grpc"),
        ("raftkv.client.client", "from raftkv.rpc.v1 import api_pb2_grpc"),
        ("raftkv", "from raftkv.client import connect"),
    ],
)
def test_an_import_within_the_rules_is_not(module: str, source: str) -> None:
    assert violations(module, source) == []


# ---- what protobuf writes decides nothing ----------------------------------------------

# Another protobuf library may write the same message as other bytes, of another size. So below the
# server nothing may be decided, hashed or compared by them: `wire/canonical.py` is for that. These
# functions serialise or measure messages all the same, each with the reason why it decides nothing.
SERIALISED: dict[str, str] = {
    "raftkv.kv.validation.check_in_steps": "one node accepts or refuses; no agreement is needed",
    "raftkv.kv.validation.check_command": "as check_in_steps",
    "raftkv.kv.validation.check_read_transaction": "as check_in_steps, of a read",
    "raftkv.kv.commands.CommandRunner._run_with_key": "a result, remembered to be returned",
    "raftkv.kv.machine.StateMachine._run_batch": "a result, returned and remembered for that",
    "raftkv.kv.machine._refusal": "a result, returned",
    "raftkv.node.proposer.Proposer.propose": "an entry, written by its leader for all nodes",
    "raftkv.node.leader_maintenance.LeaderMaintenance._propose_signing_key_if_due": (
        "a batch of commands, written by the leader for all nodes"
    ),
    "raftkv.node.history_compaction.HistoryCompaction._propose": "as that one",
}
SERIALISERS = {"SerializeToString", "SerializePartialToString", "ByteSize"}


def serialising(module: str, source: str) -> Iterator[str]:
    """The functions of that module that have protobuf write or measure a message."""

    def search(node: ast.AST, name: str) -> Iterator[str]:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{name}.{node.name}"
        if isinstance(node, ast.Attribute) and node.attr in SERIALISERS:
            yield name
        for child in ast.iter_child_nodes(node):
            yield from search(child, name)

    yield from search(ast.parse(source), module)


def test_below_the_server_nothing_is_decided_by_what_protobuf_writes() -> None:
    found = {
        function
        for name, path in modules()
        if covers("raftkv.kv", name) or covers("raftkv.node", name)
        for function in serialising(name, path.read_text())
    }
    assert found == set(SERIALISED), "encode it with wire/canonical.py, or say here why not"


def test_a_hash_of_what_protobuf_writes_is_found() -> None:
    source = "class Keys:\n  def look(self, c):\n    return sha256(c.SerializeToString())"
    assert list(serialising("raftkv.kv.x", source)) == ["raftkv.kv.x.Keys.look"]


# ---- names and sizes ------------------------------------------------------------------

PACKAGES = {"raftkv": ROOT / "raftkv", "jepsen_lite": ROOT / "jepsen-lite" / "jepsen_lite"}
SYNC_TWINS = "raftkv/recipes/sync.py"
"""A recipe for threads is called as the one for asyncio; the module tells them apart."""

NOUNS_IN_ING = {"fencing", "paging", "tracing"}
"""The field's nouns. Any other module is called after the thing that it holds."""

CLIENT_MODULES_MAX = 15
CONSTRUCTOR_PARAMETERS_MAX = 7


@cache
def sources(package: str) -> tuple[tuple[str, ast.Module], ...]:
    """Path and syntax tree of each module of a package that is written by hand."""
    return tuple(
        (str(path.relative_to(ROOT)), ast.parse(path.read_text()))
        for path in sorted(PACKAGES[package].rglob("*.py"))
        if not path.stem.endswith(("_pb2", "_pb2_grpc"))
    )


def names_given_twice(modules: Iterable[tuple[str, ast.Module]]) -> dict[str, list[str]]:
    """Classes of one name in several places, with their modules."""
    homes: dict[str, list[str]] = {}
    for path, tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and path != SYNC_TWINS:
                homes.setdefault(node.name, []).append(path)
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def large_constructors(modules: Iterable[tuple[str, ast.Module]]) -> list[str]:
    found = []
    for path, tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if count > CONSTRUCTOR_PARAMETERS_MAX:
                    found.append(f"{path}:{node.lineno} has {count} parameters")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_is_given_twice(package: str) -> None:
    assert names_given_twice(sources(package)) == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_constructor_has_too_many_parameters(package: str) -> None:
    assert large_constructors(sources(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_called_after_a_thing(package: str) -> None:
    activities = [
        path
        for path, _ in sources(package)
        if Path(path).stem.endswith("ing") and Path(path).stem not in NOUNS_IN_ING
    ]
    assert activities == [], "name it after what it holds; the field's nouns are in NOUNS_IN_ING"


def test_the_client_has_no_crowded_folder() -> None:
    folders: dict[Path, int] = {}
    for path, _ in sources("raftkv"):
        if path.startswith("raftkv/client/"):
            folders[Path(path).parent] = folders.get(Path(path).parent, 0) + 1
    assert {folder for folder, count in folders.items() if count > CLIENT_MODULES_MAX} == set()


def test_names_and_constructors_against_the_rules_are_found() -> None:
    twice = [("a.py", ast.parse("class Call: ...")), ("b.py", ast.parse("class Call: ..."))]
    assert names_given_twice(twice) == {"Call": ["a.py", "b.py"]}
    large = "class A:\n  def __init__(self, a, b, c, d, *, e, f, g, h): ..."
    assert large_constructors([("a.py", ast.parse(large))]) == ["a.py:2 has 8 parameters"]


# ---- the interface of the node -----------------------------------------------------------


def test_only_the_node_itself_uses_its_driver() -> None:
    """Other code has `Node.core`, which is read-only, `Node.peer_handler` and `Node.fail`."""
    outside = [path for name, path in modules() if not covers("raftkv.node", name)]
    outside += (ROOT / "jepsen-lite").rglob("*.py")
    found = [
        f"{path}:{node.lineno}"
        for path in outside
        if "driver" in (source := path.read_text())  # to parse all files takes a second
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "driver"
    ]
    assert not found
