"""The sequential model of a register, as pure functions, for `search.py`.

The input of a call is (function, value), its output the result, or None if it is unknown.
Functions: "read" (value None), "write" (value: the new one), "cas" (value: [expected, new]). A
register that was never written holds None.
"""

from __future__ import annotations

from typing import Any

from jepsen_lite.checkers.linearizable.search import Model

Asked = tuple[str, Any]


def register_step(state: str | None, asked: Asked, returned: Any) -> tuple[bool, str | None]:
    """A read returns [value], a write anything, a swap [swapped, the value there is now]."""
    function, value = asked
    if function == "read":
        return returned[0] == state, state
    if function == "write":
        return True, value
    expected, new = value
    if returned is None:
        return True, new if state == expected else state
    swapped, current = returned
    if swapped:
        return state == expected, new
    return state != expected and state == current, state


# Value, version, and whether that is the version itself or only one below it, because the caller
# whose writer never got an answer.
Versioned = tuple[str | None, int, bool]


def versioned_step(state: Versioned, asked: Asked, returned: Any) -> tuple[bool, Versioned]:
    """A read returns [value, version], a write its version, a swap [swapped, value, version].

    A version is any number that grows with each write of the key, by one or by more: etcd's
    `version` as well as its `mod_revision`. Of a key that was never written it is 0.
    """
    function, value = asked
    held, version, _ = state
    if function == "read":
        return _shows(state, returned[0], returned[1])
    if function == "write":
        return _becomes(state, value, returned)
    expected, new = value
    if returned is None:
        return True, (new, version, False) if held == expected else state
    swapped, current, current_version = returned
    if swapped:
        fits, after = _becomes(state, new, current_version)
        return fits and held == expected, after
    if held == expected:
        return False, state
    return _shows(state, current, current_version)


def _shows(state: Versioned, value: str | None, version: int) -> tuple[bool, Versioned]:
    held, held_version, exact = state
    right = version == held_version if exact else version > held_version
    return value == held and right, (held, version, True)


def _becomes(state: Versioned, value: str, version: int | None) -> tuple[bool, Versioned]:
    if version is None:
        return True, (value, state[1], False)
    return version > state[1], (value, version, True)


def _only_reads(state: object, asked: Asked, returned: Any) -> bool:
    return asked[0] == "read" or (asked[0] == "cas" and returned is not None and not returned[0])


REGISTER = Model(None, register_step, _only_reads)
# A read of a version that no result has named yet narrows the state, so no call is a pure read.
VERSIONED_REGISTER = Model((None, 0, True), versioned_step)


def written(asked: Asked) -> Any:
    """The value that the call leaves behind if it succeeds; None of a read."""
    function, value = asked
    if function == "read":
        return None
    return value[1] if function == "cas" else value


def seen_by(asked: Asked, returned: Any) -> tuple[Any, ...]:
    """The value that the call proves to have been there, if it did anything at all."""
    function, value = asked
    if function == "read":
        return (returned[0],)
    if function == "cas":
        return (value[0],) if returned is None or returned[0] else (returned[1],)
    return ()


def version_returned(asked: Asked, returned: Any) -> int | None:
    """The version of the value that the call returned, if it has one."""
    if asked[0] == "write":
        return returned if isinstance(returned, int) else None
    place = 1 if asked[0] == "read" else 2
    return returned[place] if returned is not None and len(returned) > place else None
