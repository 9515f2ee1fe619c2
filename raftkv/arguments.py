"""Checks of the arguments of public calls: one function per kind of argument, which names it."""

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
    """The bytes, or a str as UTF-8. Raises `InvalidRequest` for any other type."""
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
    """A str that UTF-8 can encode. Raises `InvalidRequest` for anything else, also for bytes."""
    to_bytes(to_instance(text, str, field, "a str"), field)
    return text


def to_path(path: str | os.PathLike[str], field: str) -> Path:
    """A path. Raises `InvalidRequest` for any other type, such as bytes or a number."""
    return Path(to_instance(path, (str, os.PathLike), field, "a path"))


def to_flag(flag: bool, field: str) -> bool:
    """True or False. Raises `InvalidRequest` for anything else, such as "no" or None."""
    if flag is not True and flag is not False:
        raise _wrong_type(flag, field, "True or False")
    return flag


def to_int(number: int, field: str, minimum: int, maximum: int) -> int:
    """An int within the bounds. Raises `InvalidRequest` for another number, and for True."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise _wrong_type(number, field, "an int")
    if not minimum <= number <= maximum:
        raise InvalidRequest(
            f"{field} is {shown(number)}; give a number from {minimum} to {maximum}", field=field
        )
    return number


def to_int64(number: int, field: str, minimum: int = -INT64_MAX - 1) -> int:
    """A number for an int64 field. Raises `InvalidRequest` if it does not fit."""
    return to_int(number, field, minimum, INT64_MAX)


def require_number(value: float, field: str) -> None:
    """Raise `InvalidRequest` for anything but an int or float, also for True."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(value, field, "a number of seconds")


def milliseconds(seconds: float, field: str) -> int:
    """A duration in milliseconds. Raises `InvalidRequest` if it is not positive."""
    require_number(seconds, field)
    if not seconds > 0:
        raise InvalidRequest(f"{field} is {shown(seconds)}; give seconds above 0", field=field)
    if seconds > INT64_MAX / 1000:
        raise InvalidRequest(
            f"{field} is {shown(seconds)}; give seconds up to {INT64_MAX // 1000}", field=field
        )
    return max(1, min(INT64_MAX, round(seconds * 1000)))


def to_timeout(timeout: float, field: str = "timeout") -> float:
    """The time that a call may take, in seconds; 0: one attempt.

    The result is at most `TIMEOUT_S_MAX`, also for infinity. Raises `InvalidRequest` for NaN, for a
    negative number and for any other type.
    """
    require_number(timeout, field)
    if not timeout >= 0:
        raise InvalidRequest(
            f"{field} is {shown(timeout)}; give seconds from 0 (try once) on", field=field
        )
    return min(timeout, TIMEOUT_S_MAX)


def to_timeout_or_none(timeout: float | None, field: str = "timeout") -> float | None:
    """As `to_timeout`, or None for a wait without end."""
    return None if timeout is None else to_timeout(timeout, field)


def to_callable(function: CallableT, field: str) -> CallableT:
    """A callable. Raises `InvalidRequest` for anything else."""
    if not callable(function):
        raise _wrong_type(function, field, "a function, or something else that can be called")
    return function


def to_instance(value: T, kind: type | tuple[type, ...], field: str, wanted: str) -> T:
    """A value of this kind. Raises `InvalidRequest` that names what is `wanted`."""
    if not isinstance(value, kind):
        raise _wrong_type(value, field, wanted)
    return value


def to_list(values: Iterable[T], kind: type[T], field: str, wanted: str) -> list[T]:
    """Values of one kind. Raises `InvalidRequest` that names what is `wanted`."""
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
    """A value as text in a message. Python refuses to print an int of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_MAX:
        return f"a number of {value.bit_length()} bits"
    return repr(value)[:SHOWN_CHARACTERS_MAX]


def _wrong_type(value: object, field: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{field} is a {type(value).__name__}; give {wanted}", field=field)
