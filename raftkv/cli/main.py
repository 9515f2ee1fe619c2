"""The `raftkv` command: global options, sub-commands, and the report of errors."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from raftkv import __version__
from raftkv.cli import (
    auth_commands,
    autopilot,
    backup_commands,
    bench,
    certs_commands,
    cluster_commands,
    config_commands,
    delete_command,
    dev,
    drain,
    hold,
    kv_commands,
    lease_commands,
    lines_commands,
    member_commands,
    node_commands,
    range_command,
    recover,
    role_commands,
    serve,
    status,
    streams,
    token_commands,
    txn,
    user_commands,
    watch_command,
)
from raftkv.cli.client_command import DEFAULT_ENDPOINTS, GlobalOptionsGroup, Options, Output
from raftkv.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from raftkv.cli.output import fail
from raftkv.client.credentials import password_file_of
from raftkv.errors import RaftkvError

EPILOG = "\n".join(
    [
        "The options above may stand anywhere on the line; in front of the command, if it has an",
        "option of the same name.",
        "Write -- before keys and values that begin with a dash.",
        "",
        "Exit codes:",
        *(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items()),
    ]
)


class Commands(GlobalOptionsGroup):
    """Reports the error of every command as one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RaftkvError as error:
            options = ctx.find_object(Options) or Options()
            fail(error, options.output)
            ctx.exit(int(exit_code_of(error)))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # no boxes in a node's log
)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raftkv {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    endpoints: Annotated[
        str,
        typer.Option(
            "--endpoints",
            "-e",
            envvar="RAFTKV_ENDPOINTS",
            help="Client addresses of nodes, with commas between them; raftkvs:// in front: TLS.",
        ),
    ] = DEFAULT_ENDPOINTS,
    timeout: Annotated[
        float,
        typer.Option(
            envvar="RAFTKV_TIMEOUT",
            min=0.0,
            help="Seconds an operation may take; 0: try once, without waiting for a lock.",
        ),
    ] = 5.0,
    output: Annotated[
        Output, typer.Option("--output", "-o", envvar="RAFTKV_OUTPUT", help="How to print.")
    ] = Output.TABLE,
    cacert: Annotated[
        str,
        typer.Option(
            envvar="RAFTKV_CACERT", metavar="FILE", help="TLS: the CAs of the nodes' certificates."
        ),
    ] = "",
    cert: Annotated[
        str,
        typer.Option(envvar="RAFTKV_CERT", metavar="FILE", help="TLS: the client's certificate."),
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            envvar="RAFTKV_KEY", metavar="FILE", help="TLS: the key of the client's certificate."
        ),
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            envvar="RAFTKV_USER",
            metavar="NAME",
            help="The user to log in as. Without a password file the password is asked for.",
        ),
    ] = "",
    password_file: Annotated[
        str,
        typer.Option(
            envvar="RAFTKV_PASSWORD_FILE", metavar="FILE", help="A file with the user's password."
        ),
    ] = "",
    token_file: Annotated[
        str,
        typer.Option(
            envvar="RAFTKV_TOKEN_FILE",
            metavar="FILE",
            help="A file with a service token, in place of user and password.",
        ),
    ] = "",
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Which raftkv.")
    ] = False,
) -> None:
    """A replicated key-value store: run nodes, read and write keys, look after a cluster.

    Start with [bold]raftkv dev[/bold] in one terminal and [bold]raftkv put hello world[/bold]
    in another.
    """
    sources = {
        name: source.name if (source := context.get_parameter_source(name)) else ""
        for name in ("timeout", "user", "password_file", "token_file")
    }
    # What stands on the line has precedence over the environment. So a user on the line has no
    # password file of another one.
    if sources["user"] == "COMMANDLINE" and sources["password_file"] == "ENVIRONMENT":
        password_file = password_file_of(user, os.environ)
    if user and token_file and sources["user"] != sources["token_file"]:
        if sources["user"] == "COMMANDLINE":
            token_file = ""
        else:
            user = ""
    context.obj = Options(
        endpoints,
        timeout,
        output,
        timeout_given=sources["timeout"] not in ("", "DEFAULT"),
        cacert=cacert,
        cert=cert,
        key=key,
        user=user,
        password_file=password_file,
        token_file=token_file,
    )


NODES, KEYS, NAMES, CLUSTER = "Nodes", "Keys", "Locks and elections", "Cluster"
ACCESS = "Users and rights"

app.command(rich_help_panel=NODES)(serve.serve)
app.command(rich_help_panel=NODES)(dev.dev)
app.command(rich_help_panel=NODES)(node_commands.health)
app.add_typer(config_commands.app, name="config", rich_help_panel=NODES)
app.add_typer(node_commands.secret_app, name="secret", rich_help_panel=NODES)
app.add_typer(certs_commands.app, name="certs", rich_help_panel=NODES)
app.command(rich_help_panel=KEYS)(kv_commands.put)
app.command(rich_help_panel=KEYS)(kv_commands.get)
app.command("del", rich_help_panel=KEYS)(delete_command.delete)
app.command("range", rich_help_panel=KEYS)(range_command.range_)
app.command(rich_help_panel=KEYS)(kv_commands.cas)
app.command(rich_help_panel=KEYS)(txn.txn)
app.command(rich_help_panel=KEYS)(kv_commands.compact)
app.command(rich_help_panel=KEYS)(watch_command.watch)
app.command(rich_help_panel=KEYS)(lines_commands.export)
app.command("import", rich_help_panel=KEYS)(lines_commands.import_)
app.add_typer(lease_commands.app, name="lease", rich_help_panel=KEYS)
app.command(cls=hold.LockCommand, rich_help_panel=NAMES)(hold.lock)
app.command(rich_help_panel=NAMES)(hold.elect)
app.command(rich_help_panel=CLUSTER)(status.status)
app.command(rich_help_panel=CLUSTER)(autopilot.autopilot)
app.command(rich_help_panel=CLUSTER)(drain.drain)
app.add_typer(member_commands.app, name="member", rich_help_panel=CLUSTER)
app.add_typer(recover.app, name="recover", rich_help_panel=CLUSTER)
app.command("transfer-leader", rich_help_panel=CLUSTER)(cluster_commands.transfer_leader)
app.command("log-level", rich_help_panel=CLUSTER)(cluster_commands.log_level)
app.add_typer(backup_commands.app, name="backup", rich_help_panel=CLUSTER)
app.command(rich_help_panel=CLUSTER)(bench.bench)
app.add_typer(user_commands.app, name="user", rich_help_panel=ACCESS)
app.add_typer(role_commands.app, name="role", rich_help_panel=ACCESS)
app.add_typer(token_commands.app, name="token", rich_help_panel=ACCESS)
app.add_typer(auth_commands.app, name="auth", rich_help_panel=ACCESS)


def main() -> None:
    """The entry point of the `raftkv` script."""
    streams.prepare()
    # Keep gRPC's own log of connections off the terminal.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        app(prog_name="raftkv")
    except SystemExit as end:
        sys.exit(streams.exit_code(end.code if isinstance(end.code, int) else 0))
    except Exception:  # noqa: BLE001 - a defect must not end with 1: "nothing was applied"
        traceback.print_exc()
        sys.exit(streams.exit_code(ExitCode.DEFECT))
