"""A transaction's conditions and operations as text: one grammar and one quoting rule for both.

A word goes to the next blank, and every character in it stands for itself. A word that begins with
a quote goes to the same quote: within '...' every character stands for itself, within "..." `\\"`
is a quote and `\\\\` a backslash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.cli.kv_commands import argument_bytes
from raftkv.errors import InvalidRequest

if TYPE_CHECKING:
    from raftkv.client.model.op import Operation
    from raftkv.client.model.when import Compare

CONDITION_FORM = (
    "value(KEY) = TEXT, or version|create|mod|lease(KEY) with = != < > and a number,"
    " exists(KEY), absent(KEY)"
)
OPERATION_FORM = "put KEY VALUE, get KEY, range START END, del KEY [END]"
QUOTES = ("'", '"')
BLANKS = " \t\r\n\f\v"
SIGNS = ("!=", "=", "<", ">")
FIX = 'put text with blanks in quotes, as \'two words\', and a quote in such a text as "a\\"b"'


def parse_condition(text: str) -> Compare:
    """`version(KEY) > 3`, `value(KEY) = text`, `absent(KEY)`. Raises InvalidRequest."""
    from raftkv.client.model import when

    words = _Words("condition", text, CONDITION_FORM)
    target = words.word("what is compared, as in value(KEY)", stops="(")
    words.take("(", f"the key of {target}, as in {target}(KEY)")
    key = argument_bytes(words.word("KEY", stops=")"))
    words.take(")", ") after KEY; put a key with blanks or brackets in quotes")
    bare = {"exists": when.exists, "absent": when.absent}
    numbers = {
        "version": when.version,
        "create": when.create_revision,
        "mod": when.mod_revision,
        "lease": when.lease,
    }
    if target in bare:
        words.end()
        return bare[target](key)
    if target not in (*numbers, "value"):
        raise words.misread(0, f"{target!r} is not known")
    sign = words.sign()
    at = words.next_at
    operand = words.word("TEXT" if target == "value" else "a whole number")
    words.end()
    if target == "value":
        return _compare(when.value(key), sign, argument_bytes(operand))
    try:
        return _compare(numbers[target](key), sign, int(operand))
    except ValueError:
        raise words.misread(at, f"{operand!r} is no whole number") from None


def parse_operation(text: str) -> Operation:
    """`put KEY VALUE`, `get KEY`, `range START END`, `del KEY [END]`. Raises InvalidRequest."""
    from raftkv.client.model import op

    words = _Words("operation", text, OPERATION_FORM)
    name = words.word("an operation")
    names = {
        "put": ("KEY", "VALUE"),
        "get": ("KEY",),
        "range": ("START", "END"),
        "del": ("KEY",),
    }.get(name)
    if names is None:
        raise words.misread(0, f"{name!r} is not known")
    arguments = [argument_bytes(words.word(wanted)) for wanted in names]
    if name == "del" and not words.at_end:
        arguments.append(argument_bytes(words.word("END")))
    words.end()
    match name, arguments:
        case "put", [key, value]:
            return op.put(key, value)
        case "get", [key]:
            return op.get(key)
        case "range", [start, end]:
            return op.range(start, end)
        case "del", [start, end]:
            return op.delete_range(start, end)
    return op.delete(arguments[0])


class _Words:
    """Reads the text from left to right. Positions in messages count characters from 1."""

    def __init__(self, what: str, text: str, form: str) -> None:
        self._what = what
        self._text = text
        self._form = form
        self._at = 0
        self._last = ""  # what the word before stands for

    @property
    def next_at(self) -> int:
        """Where the next word begins."""
        while self._at < len(self._text) and self._text[self._at] in BLANKS:
            self._at += 1
        return self._at

    @property
    def at_end(self) -> bool:
        return self.next_at == len(self._text)

    def word(self, wanted: str, stops: str = "") -> str:
        """The next word; without quotes it ends before `stops`, too."""
        start = self.next_at
        self._last = wanted
        if self._text[start : start + 1] in QUOTES:
            return self._quoted(start, stops)
        end = start
        while end < len(self._text) and self._text[end] not in BLANKS + stops:
            end += 1
        if end == start:
            empty = "; write '' for the empty one" if wanted in ("VALUE", "TEXT") else ""
            raise self.misread(start, f"{wanted} is missing{empty}")
        self._at = end
        return self._text[start:end]

    def _quoted(self, start: int, stops: str) -> str:
        quote = self._text[start]
        found: list[str] = []
        at = start + 1
        while at < len(self._text):
            if self._text[at] == quote:
                self._at = at + 1
                after = self._text[self._at : self._at + 1]
                if after and after not in BLANKS + stops:
                    raise self.misread(self._at, f"the word ended with the quote before it; {FIX}")
                return "".join(found)
            if quote == '"' and self._text[at : at + 2] in ('\\"', "\\\\"):
                at += 1
            found.append(self._text[at])
            at += 1
        raise self.misread(
            start, f"the quote {quote} is not closed; a word that begins with a quote ends with it"
        )

    def take(self, sign: str, wanted: str) -> None:
        """Raises if the next character is not this one."""
        if self._text[self.next_at : self._at + 1] != sign:
            raise self.misread(self._at, f"expected {wanted}")
        self._at += 1

    def sign(self) -> str:
        """The comparison's sign, which nothing like `<=` may follow."""
        for sign in SIGNS:
            if self._text.startswith(sign, self.next_at):
                self._at += len(sign)
                if self._text.startswith("=", self._at):
                    raise self.misread(
                        self._at,
                        f"{sign}= is no sign; if the text begins with =, put it in quotes",
                    )
                return sign
        raise self.misread(self._at, "expected one of = != < >")

    def end(self) -> None:
        """Raises if there is more."""
        if not self.at_end:
            raise self.misread(
                self._at,
                f"{self._last} has ended before it; {FIX}",
            )

    def misread(self, at: int, why: str) -> InvalidRequest:
        """The error to raise; `at` is the index of the character that is wrong."""
        rest = repr(self._text[at : at + 20]) if at < len(self._text) else "the end"
        return InvalidRequest(
            f"{self._what} {self._text!r} can't be read at character {at + 1}, {rest}: {why}."
            f" Write {self._form}"
        )


def _compare(side: object, sign: str, operand: object) -> Compare:
    # The sides build a condition from Python's own comparison signs.
    match sign:
        case "=":
            return side == operand  # type: ignore[return-value]
        case "!=":
            return side != operand  # type: ignore[return-value]
        case "<":
            return side < operand  # type: ignore[no-any-return, operator]
        case _:
            return side > operand  # type: ignore[no-any-return, operator]
