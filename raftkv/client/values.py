"""What callers write, checked: each kind of argument by one function, which names the argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from raftkv.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:  # which checks its own fields with what is here
    from raftkv.client.settings import ClientSettings

INT64_MAX = 2**63 - 1
ALL_KEYS_FROM = b"\x00"
"""As the end of a range: no end, every key from its start on."""
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


def to_key(key: str | bytes, settings: ClientSettings, field: str = "key") -> bytes:
    """A key. Raises `InvalidRequest` if it is empty, `TooLarge` if it is too long."""
    encoded = key if type(key) is bytes else to_bytes(key, field)
    size = len(encoded)
    if not size:
        raise InvalidRequest(f"{field} is empty; a key has at least one byte", field=field)
    if size > settings.key_bytes_max:
        raise TooLarge(
            f"{field} has {size} bytes, the limit is {settings.key_bytes_max}; shorten it",
            field=field,
            limit=settings.key_bytes_max,
        )
    return encoded


def to_value(value: str | bytes, settings: ClientSettings, field: str = "value") -> bytes:
    """A value. Raises `TooLarge` if it is too long."""
    encoded = value if type(value) is bytes else to_bytes(value, field)
    if len(encoded) > settings.value_bytes_max:
        raise TooLarge(
            f"{field} has {len(encoded)} bytes, the limit is {settings.value_bytes_max};"
            " split it over several keys",
            field=field,
            limit=settings.value_bytes_max,
        )
    return encoded


def prefix_end(prefix: str | bytes) -> bytes:
    """The end of the range that holds exactly the keys that start with `prefix`."""
    encoded = to_bytes(prefix, "prefix").rstrip(b"\xff")
    return encoded[:-1] + bytes([encoded[-1] + 1]) if encoded else ALL_KEYS_FROM


def prefix_range(prefix: str | bytes) -> tuple[bytes, bytes]:
    """Start and end of the keys that start with `prefix`; an empty prefix stands for all keys."""
    return to_bytes(prefix, "prefix") or ALL_KEYS_FROM, prefix_end(prefix)


def require_prefix(prefix: str | bytes) -> str | bytes:
    """Raise `InvalidRequest` for the empty prefix: nobody deletes everything by mistake."""
    if not to_bytes(prefix, "prefix"):
        raise InvalidRequest(
            'prefix is empty; to delete every key say delete_range(b"\\0", b"\\0")', field="prefix"
        )
    return prefix


def to_flag(flag: bool, field: str) -> bool:
    """True or False. Raises `InvalidRequest` for anything else: "no" and None are no answers."""
    if flag is not True and flag is not False:
        raise _wrong_type(flag, field, "True or False")
    return flag


def to_int64(number: int, field: str, minimum: int = -INT64_MAX - 1) -> int:
    """A number for the wire. Raises `InvalidRequest` if it has no room there."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise _wrong_type(number, field, "an int")
    if not minimum <= number <= INT64_MAX:
        raise InvalidRequest(
            f"{field} is {shown(number)}; give a number from {minimum} to {INT64_MAX}", field=field
        )
    return number


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

    Raises `InvalidRequest` for what is no such number. Infinity is none either: what may wait
    without end does so for None.
    """
    require_number(timeout, field)
    if not 0 <= timeout <= TIMEOUT_S_MAX:
        raise InvalidRequest(
            f"{field} is {shown(timeout)}; give seconds from 0 (try once) to {TIMEOUT_S_MAX}",
            field=field,
        )
    return timeout


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


def _wrong_type(value: object, field: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{field} is a {type(value).__name__}; give {wanted}", field=field)


def shown(value: object) -> str:
    """A value in a message; Python refuses to write out an int of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_MAX:
        return f"a number of {value.bit_length()} bits"
    return repr(value)[:SHOWN_CHARACTERS_MAX]
