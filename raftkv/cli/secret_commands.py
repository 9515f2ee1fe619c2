"""`raftkv secret new`: the file by which the nodes of a cluster know each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from raftkv.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Make the secret of a cluster.")


@app.callback()
def _group() -> None: ...


@app.command()
def new(
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="A file that is there stays, and is no error.")
    ] = False,
) -> None:
    """Write a new secret to FILE, readable by its owner alone.

    Copy it to every node and set cluster_secret_file to it. An existing file is never overwritten.
    """
    from raftkv.peer.secret import new_secret, read_secret

    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if if_missing:
            read_secret(str(file))
            return
        raise ConfigurationError(
            f"{file} exists and is left as it is. Fix: name another file, or use the secret in it."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{file} can't be written: {error.strerror}. Fix: name a file in a directory that"
            " exists and that you may write to."
        ) from None
    with os.fdopen(descriptor, "w") as out:
        out.write(new_secret() + "\n")
        out.flush()
        os.fsync(out.fileno())
    typer.echo(f"{file}: copy it to every node, and set cluster_secret_file to it")
