"""The public Python API as stubs, compared by griffe with that of the last release.

    scripts/api check      end with 1 if a change since then may break a caller, and explain it
    scripts/api release    make what is public now the baseline
    scripts/api show       print what is public now

The baseline is `tests/packaging/api/`. A stub has what callers may rely on: the names, the
parameters with their defaults, the members of classes, inherited ones included. Nothing of it
depends on the module in which a class is written.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import griffe

import raftkv
from tests.client.public_calls import FOR_THE_LIBRARY, NOT_MADE_BY_CALLERS

ROOT = Path(__file__).parents[2]
BASELINE = Path(__file__).with_name("api")
MODULES = (
    *("raftkv", "raftkv.clocks", "raftkv.clocks.grpc_aio", "raftkv.clocks.grpc_sync"),
    *("raftkv.recipes", "raftkv.recipes.sync"),
)
RESULTS = ("raftkv.client.model.results", "raftkv.client.model.status")
"""Where classes are that only the library makes: their constructors promise nothing."""

NOT_PROMISED = {"described", "loop", "queues", "renewed_at", "wire"}
"""Attributes that parts of the client read of each other."""

DECORATORS = ("staticmethod", "classmethod", "contextmanager", "asynccontextmanager")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
INDENT = "    "
ELLIPSIS = "..."


def render(package: griffe.Module) -> dict[str, str]:
    """The stubs by file name."""
    stubs = {f"{path.replace('.', '/')}/__init__.pyi": "" for path in MODULES}
    for path in MODULES:
        module = package if path == package.path else package[path.removeprefix("raftkv.")]
        lines: list[str] = []
        for name, public in sorted(public_members(module)):
            if isinstance(public, griffe.Module):
                parts = [line for _, each in sorted(functions_of(public)) for line in stub(each)]
                stubs[f"{path.replace('.', '/')}/{name}.pyi"] = "\n".join(parts) + "\n"
            else:
                lines += stub(public, name)
        stubs[f"{path.replace('.', '/')}/__init__.pyi"] = "\n".join(lines) + "\n"
    return stubs


def public_members(module: griffe.Module) -> Iterator[tuple[str, griffe.Object]]:
    if module.path == "raftkv":
        names = [name for name in dir(raftkv) if name != "__version__"]
    elif module.exports is not None:
        names = [str(name) for name in module.exports]
    else:
        names = [n for n, each in module.members.items() if each.is_public and not each.is_alias]
    for name in names:
        yield name, target(module[name])


def functions_of(module: griffe.Module) -> Iterator[tuple[str, griffe.Object]]:
    for name, member in module.members.items():
        if not member.is_alias and member.is_function and member.is_public:
            yield name, target(member)


def target(member: griffe.Object | griffe.Alias) -> griffe.Object:
    return member.final_target if isinstance(member, griffe.Alias) else member


def stub(public: griffe.Object, name: str = "") -> list[str]:
    """The lines that stand for an object."""
    name = name or public.name
    if isinstance(public, griffe.Class):
        return class_stub(public, name)
    if isinstance(public, griffe.Function):
        return function_stub(public, name)
    return [attribute_stub(public, name)]


def class_stub(cls: griffe.Class, name: str) -> list[str]:
    bases = [str(base) for base in cls.bases if str(base) in dir(raftkv)]
    lines = []
    for member_name, member in sorted(promised_members(cls).items()):
        lines += [INDENT + line for line in stub(target(member), member_name)]
    head = f"class {name}({', '.join(bases)}):" if bases else f"class {name}:"
    return [head, *lines] if lines else [f"{head} {ELLIPSIS}"]


def promised_members(cls: griffe.Class) -> dict[str, griffe.Object | griffe.Alias]:
    """The members of a class, without those that a public base class shows by itself."""
    ancestry = [cls, *cls.mro()]
    shown = {
        name
        for base in ancestry[1:]
        if base.name in dir(raftkv)
        for name in base.all_members
        if name not in cls.members
    }
    hidden = NOT_PROMISED.union(*(FOR_THE_LIBRARY.get(each.name, ()) for each in ancestry))
    return {
        name: member
        for name, member in cls.all_members.items()
        if (not name.startswith("_") and name not in shown | hidden)
        or (name == "__init__" and is_made_by_callers(cls))
    }


def is_made_by_callers(cls: griffe.Class) -> bool:
    of_the_library = cls.name in NOT_MADE_BY_CALLERS or cls.module.path in RESULTS
    return not of_the_library and not is_error(cls)


def is_error(cls: griffe.Class) -> bool:
    return cls.module.path == "raftkv.errors"


def function_stub(function: griffe.Function, name: str) -> list[str]:
    returns = f" -> {function.returns}" if function.returns is not None else ""
    if "property" in function.labels:
        return [f"{name}: {function.returns}"]
    decorators = {str(each.value) for each in function.decorators}
    kept = [f"@{each}" for each in DECORATORS if each in decorators]
    is_async = "async " if "async" in function.labels else ""
    return [*kept, f"{is_async}def {name}({parameters(function)}){returns}: {ELLIPSIS}"]


def parameters(function: griffe.Function) -> str:
    shown: list[str] = []
    kinds = griffe.ParameterKind
    previous: griffe.ParameterKind | None = None
    for each in function.parameters:
        if previous is kinds.positional_only and each.kind is not previous:
            shown.append("/")
        if each.kind is kinds.keyword_only and previous not in (
            kinds.keyword_only,
            kinds.var_positional,
        ):
            shown.append("*")
        stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(each.kind, "")
        text = f"{stars}{each.name}"
        if each.annotation is not None:
            text += f": {each.annotation}"
        if each.default is not None and not stars:
            text += f" = {each.default}" if each.annotation is not None else f"={each.default}"
        shown.append(text)
        previous = each.kind
    if previous is kinds.positional_only:
        shown.append("/")
    return ", ".join(shown)


def attribute_stub(attribute: griffe.Object, name: str) -> str:
    assert isinstance(attribute, griffe.Attribute), attribute.path
    text = name if attribute.annotation is None else f"{name}: {attribute.annotation}"
    value = attribute.value
    if value is None or attribute.labels == {"instance-attribute"}:
        return text if attribute.annotation is not None else f"{name}: object"
    return f"{text} = {value}"


def present() -> dict[str, str]:
    """The stubs of this checkout."""
    package = griffe.load("raftkv", search_paths=[str(ROOT)], try_relative_path=False)
    assert isinstance(package, griffe.Module)
    assert package.filepath == ROOT / "raftkv" / "__init__.py"
    return render(package)


def write(stubs: dict[str, str], directory: Path) -> None:
    for name, text in stubs.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def breaking_changes(old: Path, new: Path) -> list[str]:
    """An explanation of each change between two folders of stubs that may break a caller."""
    before, after = (
        griffe.load("raftkv", search_paths=[str(each)], try_relative_path=False)
        for each in (old, new)
    )
    found = [
        # The line of a stub is of no use to a reader; colours are only for a terminal.
        f"{each.obj.module.path}: {COLOUR.sub('', each.explain()).partition(': ')[2]}"
        for each in griffe.find_breaking_changes(before, after)
    ]
    old_values, new_values = dict(values_below(before)), dict(values_below(after))
    return found + [
        f"{path}: the value was {value} and is {new_values[path]}"
        for path, value in old_values.items()
        if new_values.get(path, value) != value
    ]


def values_below(scope: griffe.Object | griffe.Alias) -> Iterator[tuple[str, str]]:
    """The values of attributes, such as an error's `reason`; griffe does not compare them."""
    for member in scope.members.values():
        if isinstance(member, griffe.Attribute) and member.value is not None:
            yield member.path, str(member.value)
        elif not member.is_alias:
            yield from values_below(member)


def check() -> int:
    with tempfile.TemporaryDirectory() as directory:
        write(present(), Path(directory))
        found = breaking_changes(BASELINE, Path(directory))
    for each in found:
        print(each)
    if found:
        print(
            "\nThe public API is not what the last release promised (docs/compatibility.md)."
            "\nKeep the old form beside the new one; at a release that may break it: scripts/api"
            " release"
        )
    return 1 if found else 0


def main(command: str) -> int:
    if command == "check":
        return check()
    stubs = present()
    if command == "release":
        shutil.rmtree(BASELINE, ignore_errors=True)
        write(stubs, BASELINE)
        return 0
    if command == "show":
        for name, text in sorted(stubs.items()):
            print(f"# {name}\n{text}")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
