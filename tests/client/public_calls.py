"""Every public call of the client library with its parameters, found by inspection."""

from __future__ import annotations

import enum
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

import raftkv
import raftkv.recipes
import raftkv.recipes.sync
from raftkv import op, when
from raftkv.client.model.results import Grant
from raftkv.client.requests import Fences

INT64_MAX = 2**63 - 1
HUGE = 10**5000

NOT_MADE_BY_CALLERS = (
    *("Client", "SyncClient", "Lock", "Election", "Leadership", "KeptLease", "Watch", "SyncWatch"),
    *("Scan", "SyncScan", "PagedDeletion", "SyncPagedDeletion", "Transaction", "Compare"),
    "SyncTransaction",
    *("Operation", "SharedLock", "LockSet"),
    *("Auth", "SyncAuth"),
    *("SyncElection", "SyncKeptLease", "SyncLeadership", "SyncLock"),
)
"""Classes whose objects the library makes: their methods are public, their constructors are not."""

MADE_BY_CALLERS = ("ClientSettings", "Tls", "LamportTime", "HybridTime", "VectorTime")
"""Of the dataclasses; all others are what the library returns."""

FOR_THE_LIBRARY = {
    "KeptLease": {
        *("add_loss_callback", "remove_loss_callback", "trust_from"),
        *("add_user", "remove_user", "mark_lost", "check", "error"),
    },
    "Leadership": {"abandon"},
    "Lock": {"abandon", "acquire_for", "detach", "exit_block", "timeout_error", "try_acquire_for"},
    "LockSet": {"acquire_for", "abandon", "exit_block"},
    "Watch": {"start", "progress", "deliver", "fail"},
}
"""Methods that parts of the client call on each other, with what the client made itself."""

FROM_ONE = {
    *("node_id", "old_id", "new_id", "page_keys", "slots", "count", "token"),
    *("reserved_ticks", "reserved_ms"),
}
"""Numbers of which 0 is none, unless it is the default."""

MAY_BE_NEGATIVE = {"lease", "n", "other"}
"""Ids of leases are any 64-bit numbers, counters go down, conditions compare with any number."""

PATHS = {"directory", "path", "ca_file", "cert_file", "key_file"}

BOUNDS = {"start", "end", "key", "access"}
"""What a range needs if it has no prefix."""

CALLED = {"other": ("number", "value")}
"""Operators have an argument without a name of the caller's."""

WRONG = (
    *(None, True, 1, 0, -1, 2**63, HUGE, 1.5, math.nan, math.inf, -math.inf, -0.5, 1e300),
    *("text", "\udcff", b"bytes", bytearray(b"bytes"), (), [], [None], ["text", 1], {}, {"a": 1}),
    *(object(), int, lambda: None, ("name", 0), ("name", True), ("name", "1"), (1, 1), op, Grant),
)
WRONG_TEXTS = {
    "level": ("", "loud"),
    "endpoint": ("", "a", "a:b", "http://a:1", "a:99999"),
    "endpoints": ("", "a", "a:b", "http://a:1", ["a:99999"], []),
    "peer_address": ("a", "a:b", "http://a:1"),
    "client_address": ("a", "a:b", "http://a:1"),
}
TEXTS = {
    "access": "read",
    "level": "info",
    "endpoint": "a:1",
    "endpoints": "a:1",
    "peer_address": "a:1",
    "client_address": "a:2",
    "path": "/nowhere/clock",
    "start": "a",
    "end": "b",
}


@dataclass(frozen=True)
class PublicCall:
    """A public function, method or constructor."""

    name: str
    function: Callable[..., Any]
    hints: Mapping[str, Any]
    parameters: Sequence[inspect.Parameter]

    def with_wrong(self, wrong: inspect.Parameter, value: object, valid: Mapping[Any, Any]) -> Any:
        """Call it with one wrong argument among what it needs besides."""
        positional: list[object] = []
        named: dict[str, object] = {}
        by_position = any(each.kind is VARIABLE for each in self.parameters)
        for parameter in self.parameters:
            if parameter is wrong:
                given = value
            elif parameter.default is parameter.empty or (
                parameter.name in BOUNDS
                and wrong.name != "prefix"
                and str in _members(self.hints[parameter.name])
            ):
                given = _valid(self, parameter, valid)
            else:
                continue
            if by_position and parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(given)
            else:
                named[parameter.name] = given
        return self.function(*positional, **named)

    def wrong_values(self, parameter: inspect.Parameter) -> Iterator[object]:
        """What is no argument for this parameter, derived from its annotation."""
        hint = self.hints[parameter.name]
        for value in WRONG:
            if not _accepts(hint, value, parameter):
                yield value
        if any(member is str for member in _members(hint)):
            yield from WRONG_TEXTS.get(parameter.name, ())


VARIABLE = inspect.Parameter.VAR_POSITIONAL


def functions_of(module: types.ModuleType, names: Iterable[str]) -> Iterator[PublicCall]:
    """The public functions of a module, and the constructors of classes that callers make."""
    for name in names:
        found = getattr(module, name)
        if inspect.isclass(found):
            of_the_library = is_dataclass(found) and name not in MADE_BY_CALLERS
            plain = issubclass(found, BaseException | enum.Enum)
            if not (plain or of_the_library or name in NOT_MADE_BY_CALLERS):
                yield _call(f"{module.__name__}.{name}", found, hints_of=found.__init__)
        elif callable(found):
            yield _call(f"{module.__name__}.{name}", found)


def classes_of(module: types.ModuleType, names: Iterable[str]) -> Iterator[type]:
    """The public classes whose methods take arguments."""
    for name in names:
        found = getattr(module, name)
        if (
            inspect.isclass(found)
            and not issubclass(found, BaseException | enum.Enum)
            and any(_public_methods(found))
        ):
            yield found


def methods_of(thing: object) -> Iterator[PublicCall]:
    """The public methods of an object that take arguments."""
    for name in _public_methods(type(thing)):
        yield _call(f"{type(thing).__module__}.{type(thing).__name__}.{name}", getattr(thing, name))


def operators() -> Iterator[PublicCall]:
    """The comparisons that make a condition."""
    for left in (when.version("k"), when.value("k")):
        for name in ("__eq__", "__ne__", "__lt__", "__gt__"):
            yield _call(f"when.{type(left).__name__}.{name}", getattr(left, name))


def modules() -> tuple[tuple[types.ModuleType, Sequence[str]], ...]:
    """The public modules and their public names."""
    mine = {
        module: [
            name
            for name, found in vars(module).items()
            if not name.startswith("_") and getattr(found, "__module__", "") == module.__name__
        ]
        for module in (op, when, raftkv.recipes.sync)
    }
    public = [name for name in raftkv.__all__ if not name.startswith("_")]
    return (
        (raftkv, [name for name in public if not inspect.ismodule(getattr(raftkv, name))]),
        (op, [name for name in mine[op] if name not in ("transaction_of", "sort_order")]),
        (when, mine[when]),
        (raftkv.recipes, raftkv.recipes.__all__),
        (
            raftkv.recipes.sync,
            [name for name in mine[raftkv.recipes.sync] if name not in ("SyncSharedLock",)],
        ),
    )


def entered(result: object) -> object:
    """What a call returned, entered if the call begins only then."""
    if isinstance(result, AbstractContextManager) and hasattr(result, "gen"):
        return result.__enter__()
    if isinstance(result, AbstractAsyncContextManager) and hasattr(result, "gen"):
        return result.__aenter__()
    return result


def _public_methods(cls: type) -> list[str]:
    left_out = {name for base in cls.__mro__ for name in FOR_THE_LIBRARY.get(base.__name__, ())}
    return [
        name
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
        and name not in left_out
        and member.__module__.startswith("raftkv.")
        and len(inspect.signature(member).parameters) > 1
    ]


def _call(
    name: str, function: Callable[..., Any], hints_of: Callable[..., Any] | None = None
) -> PublicCall:
    parameters = tuple(inspect.signature(function).parameters.values())
    annotated = types.SimpleNamespace(
        __annotations__={each.name: each.annotation for each in parameters}
    )
    names = inspect.unwrap(hints_of or function).__globals__
    return PublicCall(name, function, typing.get_type_hints(annotated, names), parameters)


def _members(hint: Any) -> tuple[Any, ...]:
    union = get_origin(hint) in (Union, types.UnionType)
    return tuple(inner for each in get_args(hint) for inner in _members(each)) if union else (hint,)


def _accepts(hint: Any, value: Any, parameter: inspect.Parameter) -> bool:
    """Whether the annotation, and what is documented of such arguments, admit the value."""
    if hint == Fences:
        return value is None
    return any(_accepts_one(member, value, parameter) for member in _members(hint))


def _accepts_one(hint: Any, value: Any, parameter: inspect.Parameter) -> bool:
    name = parameter.name
    number = isinstance(value, int | float) and not isinstance(value, bool)
    origin = get_origin(hint)
    if hint is types.NoneType:
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        minimum = (
            -INT64_MAX
            if name in MAY_BE_NEGATIVE
            else int(name in FROM_ONE and parameter.default != 0)
        )
        maximum = 2**64 - 1 if name == "value" else INT64_MAX  # a Lamport time has no sign
        return number and isinstance(value, int) and minimum <= value <= maximum
    if hint is float:
        return number and (value >= 0 if name == "timeout" else 0 < value <= INT64_MAX / 1000)
    if hint is str:
        is_text = value != "\udcff" or name in PATHS  # a path may be any bytes
        return isinstance(value, str) and is_text and name not in WRONG_TEXTS
    if hint is bytes:
        return isinstance(value, bytes)
    if origin is Literal:
        return value in get_args(hint)
    if origin is Sequence:
        return isinstance(value, list | tuple | dict) and not value and name != "endpoints"
    if origin is Callable:
        return callable(value)
    if origin is Mapping:
        return isinstance(value, dict)
    if origin is frozenset:
        return isinstance(value, frozenset)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike)
    if inspect.isclass(hint) and hint is not object:
        return isinstance(value, hint)
    raise AssertionError(f"{name}: no wrong values are known for {hint}; teach them here")


def _valid(call: PublicCall, parameter: inspect.Parameter, valid: Mapping[Any, Any]) -> object:
    hint, name = call.hints[parameter.name], parameter.name
    for member in _members(hint):
        if member in valid:
            return valid[member]
        if member in (str, bytes):
            return TEXTS.get(name, "k")
        if member in (int, float):
            return 1
        if get_origin(member) is Callable:
            return lambda *_: None
        if member is Grant:
            return Grant(b"k", 1, 1, 1.0, b"k/1")
    raise AssertionError(f"{call.name}: no valid {name} is known ({hint}); teach one here")
