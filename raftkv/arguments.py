"""Arguments as callers write them: each kind is checked by one function, which names the argument.

A check of what comes from outside the program is not here: it is the business of the wire.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from raftkv.errors import InvalidRequest

INT64_MAX = 2**63 - 1
TIMEOUT_S_MAX = 10**9
SHOWN_BITS_MAX = 256
SHOWN_CHARACTERS_MAX = 100

T = TypeVar("T")
CallableT = TypeVar("CallableT", bound=Callable[..., Any])


def to_bytes(value: str | bytes, field: str) -> bytes:
    """UTF-8 for a str. Raises `InvalidRequest` for anything but text and bytes."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{field} is no text that UTF-8 can hold ({error.reason}); give bytes", field=field
            ) from None
    raise _wrong_type(value, field, "str or bytes")


def to_text(text: str, field: str) -> str:
    """Text that UTF-8 can hold. Raises `InvalidRequest` for anything else, bytes as well."""
    to_bytes(to_instance(text, str, field, "a str"), field)
    return text


def to_path(path: str | os.PathLike[str], field: str) -> Path:
    """A path. Raises `InvalidRequest` for what is none: bytes, a number."""
    return Path(to_instance(path, (str, os.PathLike), field, "a path"))


def to_flag(flag: bool, field: str) -> bool:
    """True or False. Raises `InvalidRequest` for anything else: "no" and None are no answers."""
    if flag is not True and flag is not False:
        raise _wrong_type(flag, field, "True or False")
    return flag


def to_int(number: int, field: str, minimum: int, maximum: int) -> int:
    """A number in these bounds. Raises `InvalidRequest` for another one, and for True."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise _wrong_type(number, field, "an int")
    if not minimum <= number <= maximum:
        raise InvalidRequest(
            f"{field} is {shown(number)}; give a number from {minimum} to {maximum}", field=field
        )
    return number


def to_int64(number: int, field: str, minimum: int = -INT64_MAX - 1) -> int:
    """A number for the wire. Raises `InvalidRequest` if it has no room there."""
    return to_int(number, field, minimum, INT64_MAX)


def require_number(value: float, field: str) -> None:
    """Raise `InvalidRequest` for what is no int or float: text, None, True."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(value, field, "a number of seconds")


def milliseconds(seconds: float, field: str) -> int:
    """A duration for the wire. Raises `InvalidRequest` if it is not positive."""
    require_number(seconds, field)
    if not seconds > 0:
        raise InvalidRequest(f"{field} is {shown(seconds)}; give seconds above 0", field=field)
    if seconds > INT64_MAX / 1000:
        raise InvalidRequest(
            f"{field} is {shown(seconds)}; give seconds up to {INT64_MAX // 1000}", field=field
        )
    return max(1, min(INT64_MAX, round(seconds * 1000)))


def to_timeout(timeout: float, field: str = "timeout") -> float:
    """How long a call may take, in seconds; 0: one attempt.

    A longer one than `TIMEOUT_S_MAX`, infinity too, is as good as that. Raises `InvalidRequest` for
    what is no number, for NaN and below 0.
    """
    require_number(timeout, field)
    if not timeout >= 0:
        raise InvalidRequest(
            f"{field} is {shown(timeout)}; give seconds from 0 (try once) on", field=field
        )
    return min(timeout, TIMEOUT_S_MAX)


def to_timeout_or_none(timeout: float | None, field: str = "timeout") -> float | None:
    """As `to_timeout`, of a wait that has no end for None."""
    return None if timeout is None else to_timeout(timeout, field)


def to_callable(function: CallableT, field: str) -> CallableT:
    """Something to be called. Raises `InvalidRequest` if it can't be."""
    if not callable(function):
        raise _wrong_type(function, field, "a function, or something else that can be called")
    return function


def to_instance(value: T, kind: type | tuple[type, ...], field: str, wanted: str) -> T:
    """A value of this kind. Raises `InvalidRequest` that asks for what is `wanted`."""
    if not isinstance(value, kind):
        raise _wrong_type(value, field, wanted)
    return value


def to_list(values: Iterable[T], kind: type[T], field: str, wanted: str) -> list[T]:
    """Values of one kind. Raises `InvalidRequest` that asks for a list of what is `wanted`."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise _wrong_type(values, field, f"a list of {wanted}")
    found = list(values)
    for value in found:
        if not isinstance(value, kind):
            raise InvalidRequest(
                f"{field} holds a {type(value).__name__}; give a list of {wanted}", field=field
            )
    return found


def shown(value: object) -> str:
    """A value in a message; Python refuses to write out an int of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_MAX:
        return f"a number of {value.bit_length()} bits"
    return repr(value)[:SHOWN_CHARACTERS_MAX]


def _wrong_type(value: object, field: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{field} is a {type(value).__name__}; give {wanted}", field=field)
