"""`raftkv token`: creates, lists and revokes service tokens."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.output import duration, print_json, print_table, print_values
from raftkv.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Service tokens: long-lived credentials for programs.")

_TTL = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@app.command()
def create(
    context: typer.Context,
    user: Annotated[str, typer.Option("--user", help="As whom its bearer acts.")],
    ttl: Annotated[
        str, typer.Option("--ttl", help="How long it is valid: 30d, 12h, 90m or 45s; 0: for ever.")
    ] = "30d",
) -> None:
    """Create a service token and print it, this once: the cluster has only a hash of it."""
    ttl_s = ttl_seconds(ttl)
    made = client_command.run(context, lambda client: client.auth.token_create(user, ttl_s))
    print_values(options_of(context).output, {"id": made.id, "token": made.token})


@app.command("list")
def list_(context: typer.Context) -> None:
    """List service tokens, without their secrets."""
    tokens = client_command.run(context, lambda client: client.auth.token_list())
    if options_of(context).output is Output.JSON:
        print_json([{"id": each.id, "user": each.user, "left_s": each.left_s} for each in tokens])
        return
    rows = [
        (each.id, each.user, "for ever" if each.left_s is None else duration(each.left_s * 1_000))
        for each in tokens
    ]
    print_table(("id", "user", "left"), rows)


@app.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, not the token itself.")],
) -> None:
    """End a service token."""
    client_command.run(context, lambda client: client.auth.token_revoke(token_id))
    print_values(options_of(context).output, {"revoked": token_id})


def ttl_seconds(text: str) -> float | None:
    """A time to live as in 30d; None: for ever. Raises `InvalidRequest` for any other text."""
    if text == "0":
        return None
    found = _TTL.fullmatch(text)
    if found is None or not int(found[1]):
        raise InvalidRequest(
            f"--ttl is {text!r}; give a number with s, m, h or d, as in 30d, or 0 for ever",
            field="ttl",
        )
    return float(int(found[1]) * _SECONDS[found[2]])
