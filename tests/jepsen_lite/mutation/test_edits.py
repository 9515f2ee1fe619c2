"""Which mutations there are, and that a seed always draws the same ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from jepsen_lite.mutation.candidates import candidates_of, sample

ROOT = Path(__file__).parents[3]


def changed(source: str) -> dict[str, list[str]]:
    """The lines of the only change of each mutation, by operator."""
    found: dict[str, list[str]] = {}
    for each in candidates_of("m.py", source.encode()):
        lines = [line[1:].strip() for line in each.diff(source.encode()).splitlines()]
        found.setdefault(each.edit.operator, []).append(lines[-1])
    return found


@pytest.mark.parametrize(
    ("statement", "operator", "mutated"),
    [
        ("return a < b", "comparison", "return a <= b"),
        ("return a is not b", "comparison", "return a is b"),
        ("return a not in b", "comparison", "return a in b"),
        ("return 1", "number", "return 2"),
        ("return f(sync=True)", "flag", "return f(sync=False)"),
        ("return a and b", "and-or", "return a or b"),
        ("return a - b", "sum", "return a + b"),
        ("return min(a, b)", "min-max", "return max(a, b)"),
        ("return f(a, b, a)", "arguments", "return f(b, a, a)"),
        ("await a.b(a)", "await", "a.b(a)"),
        ("a.b = a", "statement", "pass"),
        ("a += b", "statement", "pass"),
        ("while a: break", "loop", "while a: continue"),
        ("return a if b.c else b", "condition", "return a if (not (b.c)) else b"),
        ("return [c for c in a if not c]", "condition", "return [c for c in a if (c)]"),
    ],
)
def test_each_operator_changes_one_place(statement: str, operator: str, mutated: str) -> None:
    assert mutated in changed(f"async def f(a, b):\n    {statement}")[operator]


def test_a_deleted_handler_leaves_the_lines_after_it_where_they_are() -> None:
    source = b"def f(a):\n    try:\n        a()\n    except E:\n        b(\n        )\n    c()\n"
    (deleted,) = (each for each in candidates_of("m.py", source) if each.edit.operator == "handler")
    assert deleted.mutated(source) == (
        b"def f(a):\n    try:\n        a()\n    except E:\n        pass\n\n    c()\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        "def f(a):\n    self._log.info('x', a=a + 1)",
        "def f(a):\n    '''1 < 2'''",
        "def __repr__(self):\n    return self.a < 1",
        "def f(a):\n    return f'{a + 1}'",
        "def f(a: Literal[1]) -> Literal[2]:\n    b: Literal[3]",
        "class A(Enum):\n    B = 1",
        "if TYPE_CHECKING:\n    A = 1",
    ],
)
def test_what_decides_nothing_is_not_mutated(source: str) -> None:
    assert changed(source) == {}


def test_a_default_and_a_constant_are_changed_when_they_are_imported() -> None:
    found = candidates_of("m.py", b"A = 1\ndef f(a=2):\n    return 3\n")
    assert [each.at_import for each in found] == [True, True, True, True, False, False]


def test_every_mutation_of_a_large_module_compiles_and_has_an_id_of_its_own() -> None:
    source = (ROOT / "raftkv/raft/raft.py").read_bytes()
    found = candidates_of("raftkv/raft/raft.py", source)
    assert len(found) > 300
    assert len({each.id for each in found}) == len(found)
    for each in found[::30]:
        ast.parse(each.mutated(source))
        assert each.mutated(source).count(b"\n") == source.count(b"\n")


def test_a_seed_draws_the_same_mutations_although_other_code_has_changed() -> None:
    before = candidates_of("m.py", b"def f(a):\n    return a + 1 < 2\n")
    after = candidates_of("m.py", b"def e(a):\n    a()\n\ndef f(a):\n    return a + 1 < 2\n")
    drawn = [each.id for each in sample(before, 3, seed=1)]
    assert drawn == [each.id for each in sample(before, 3, seed=1)]
    assert drawn != [each.id for each in sample(before, 3, seed=2)]
    kept = {each.id for each in sample(after, 3, seed=1)}
    assert len(kept & set(drawn)) >= 2
