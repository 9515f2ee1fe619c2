"""`raftkv txn`: a transaction of conditions and operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.kv_commands import IdempotencyKey, fields_of
from raftkv.cli.output import print_json
from raftkv.cli.txn_text import CONDITION_FORM, OPERATION_FORM, parse_condition, parse_operation
from raftkv.errors import InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.client.model.results import OperationResult, TransactionResult


def txn(
    context: typer.Context,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--if", metavar="CONDITION", help=CONDITION_FORM),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(metavar="OPERATION", help=OPERATION_FORM),
    ] = None,
    otherwise: Annotated[
        list[str] | None,
        typer.Option("--else", metavar="OPERATION", help="As --then, if a condition fails."),
    ] = None,
    idempotency_key: IdempotencyKey = "",
) -> None:
    """Do several things at once, on conditions. Each option may be repeated.

    Example: raftkv txn --if 'value(stock) = 1' --then 'put stock 0' --then 'put sold yes'
    --else 'get stock'

    Keys and values are read alike in conditions and operations: a word goes to the next blank and
    is taken as it stands, {"a":1} for example. Text with blanks goes in quotes. Within '...' all is
    taken as it stands; within "..." \\" is a quote and \\\\ a backslash.

    Exits with 3 if the conditions failed and the --else operations ran.
    """
    compare = [parse_condition(text) for text in conditions or ()]
    success = [parse_operation(text) for text in then or ()]
    failure = [parse_operation(text) for text in otherwise or ()]
    if not (compare or success or failure):
        raise InvalidRequest("the transaction is empty; give --then 'put KEY VALUE', for example")
    result = client_command.run(
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


def result_fields(result: TransactionResult) -> dict[str, object]:
    """A transaction's result as JSON shows it."""
    return {
        "revision": result.revision,
        "succeeded": result.succeeded,
        "responses": [_response_fields(response) for response in result.responses],
    }


def _response_fields(response: OperationResult) -> dict[str, object]:
    from raftkv.client.model import results

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
    from raftkv.client.model import results

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
