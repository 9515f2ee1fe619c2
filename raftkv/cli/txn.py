"""`raftkv txn`: a transaction written as text. Knows the text's grammar, nothing of the store."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import session
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.kv_commands import IdempotencyKey, argument_bytes, fields_of
from raftkv.cli.options import Output, options_of
from raftkv.cli.output import print_json
from raftkv.errors import InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.client.op import Operation
    from raftkv.client.results import OperationResult, TransactionResult
    from raftkv.client.when import Compare

CONDITION_HELP = "value(KEY) = TEXT, or version|create|mod|lease(KEY) with = != < > and a number,"


def txn(
    context: typer.Context,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--if", metavar="CONDITION", help=f"{CONDITION_HELP} exists(KEY), absent(KEY)"
        ),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPERATION", help="put KEY VALUE, get KEY, range START END, del KEY [END]"
        ),
    ] = None,
    otherwise: Annotated[
        list[str] | None,
        typer.Option("--else", metavar="OPERATION", help="As --then, if a condition fails."),
    ] = None,
    idempotency_key: IdempotencyKey = "",
) -> None:
    """Do several things at once, on conditions. Each option may be repeated.

    Example: raftkv txn --if 'value(stock) = "1"' --then 'put stock 0' --then 'put sold yes'
    --else 'get stock'

    Exits with 3 if the conditions failed and the --else operations ran.
    """
    compare = [parse_condition(text) for text in conditions or ()]
    success = [parse_operation(text) for text in then or ()]
    failure = [parse_operation(text) for text in otherwise or ()]
    if not (compare or success or failure):
        raise InvalidRequest("the transaction is empty; give --then 'put KEY VALUE', for example")
    result = session.run(
        context,
        lambda client: client.txn(compare, success, failure, idempotency_key=idempotency_key),
    )
    if options_of(context).output is Output.JSON:
        print_json(result_fields(result))
    else:
        branch = "conditions held" if result.succeeded else "conditions failed"
        typer.echo(f"{branch}, revision {result.revision}")
        for response in result.responses:
            typer.echo(f"  {describe(response)}")
    if not result.succeeded:
        raise typer.Exit(ExitCode.NO)


CONDITION = re.compile(
    r"\s*(?P<target>\w+)\s*\((?P<key>.*?)\)\s*(?:(?P<sign>!=|=|<|>)\s*(?P<operand>.*?))?\s*",
    re.DOTALL,
)


def parse_condition(text: str) -> Compare:
    """`version(KEY) > 3`, `value(KEY) = text`, `absent(KEY)`. Raises InvalidRequest."""
    from raftkv.client import when

    found = CONDITION.fullmatch(text)
    if found is None or not found["key"]:
        raise _misread("condition", text, "target(KEY) = operand, or absent(KEY)")
    key, sign, target = argument_bytes(_unquote(found["key"])), found["sign"], found["target"]
    bare = {"exists": when.exists, "absent": when.absent}
    if target in bare and sign is None:
        return bare[target](key)
    targets = {
        "version": when.version,
        "create": when.create_revision,
        "mod": when.mod_revision,
        "lease": when.lease,
    }
    if target not in (*targets, "value") or sign is None:
        raise _misread("condition", text, CONDITION_HELP + " exists(KEY) or absent(KEY)")
    operand = _unquote(found["operand"])
    if target == "value":
        return _compare(when.value(key), sign, argument_bytes(operand))
    try:
        number = int(operand)
    except ValueError:
        raise _misread("condition", text, f"{target}(KEY) {sign} a whole number") from None
    return _compare(targets[target](key), sign, number)


def parse_operation(text: str) -> Operation:
    """`put KEY VALUE`, `get KEY`, `range START END`, `del KEY [END]`. Raises InvalidRequest."""
    from raftkv.client import op

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidRequest(f"operation {text!r} can't be read: {error}") from None
    match [argument_bytes(word) for word in words]:
        case [b"put", key, value]:
            return op.put(key, value)
        case [b"get", key]:
            return op.get(key)
        case [b"range", start, end]:
            return op.range(start, end)
        case [b"del", key]:
            return op.delete(key)
        case [b"del", start, end]:
            return op.delete_range(start, end)
    raise _misread("operation", text, "put KEY VALUE, get KEY, range START END or del KEY [END]")


def result_fields(result: TransactionResult) -> dict[str, object]:
    """A transaction's result as JSON shows it."""
    return {
        "revision": result.revision,
        "succeeded": result.succeeded,
        "responses": [_response_fields(response) for response in result.responses],
    }


def _response_fields(response: OperationResult) -> dict[str, object]:
    from raftkv.client import results

    match response:
        case results.RangeResult():
            return {"count": response.count, "kvs": [fields_of(kv) for kv in response.kvs]}
        case results.DeleteResult():
            return {"deleted": response.deleted}
        case results.TransactionResult():
            return result_fields(response)
        case _:
            return {"revision": response.revision}


def describe(response: OperationResult) -> str:
    """One operation's result on a line."""
    from raftkv.client import results

    match response:
        case results.RangeResult():
            found = (f"{printable(kv.key)} = {printable(kv.value)}" for kv in response.kvs)
            return ", ".join(found) or "no such key"
        case results.DeleteResult():
            return f"{response.deleted} deleted"
        case results.TransactionResult():
            return "; ".join(map(describe, response.responses))
        case _:
            return "put"


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


def _unquote(text: str) -> str:
    for quote in "\"'":
        if len(text) >= 2 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def _misread(what: str, text: str, form: str) -> InvalidRequest:
    return InvalidRequest(f"{what} {text!r} can't be read; write {form}")
