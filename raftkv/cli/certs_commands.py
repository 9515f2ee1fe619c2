"""`raftkv certs`: makes the CA and the certificates of a small cluster, and shows certificates."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from raftkv.cli.client_command import Output, options_of
from raftkv.cli.output import print_json, print_values
from raftkv.errors import ConfigurationError
from raftkv.files import write_durably

if TYPE_CHECKING:
    from raftkv.certs import CertificateAuthority, CertificateFacts, KeyPair

P = ParamSpec("P")
T = TypeVar("T")

CA = "ca"
DAYS = 90

app = typer.Typer(
    no_args_is_help=True, help="Make certificates for the nodes and users of a cluster."
)

DirectoryOption = Annotated[
    Path, typer.Option("--dir", metavar="DIR", help="The directory of `raftkv certs init`.")
]
DaysOption = Annotated[int, typer.Option("--days", min=1, help="How long it is valid.")]


@app.command()
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it is missing.")],
    cluster_name: Annotated[
        str, typer.Option("--cluster-name", help="As the nodes' setting cluster_name has it.")
    ] = "raftkv",
) -> None:
    """Make the CA of a cluster: DIR/ca.pem and its key DIR/ca-key.pem, valid for ten years.

    An existing CA is never overwritten. Nodes and clients need ca.pem. Keep ca-key.pem off the
    nodes: with this key one can act as any node and any user.
    """
    _report(context, write_ca(directory, cluster_name))


@app.command()
def node(
    context: typer.Context,
    node_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The node's id.")],
    directory: DirectoryOption,
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="HOST",
            help="A DNS name or IP address at which clients reach the node, without a port."
            " May be given several times. Without it: localhost, 127.0.0.1 and ::1.",
        ),
    ] = None,
    days: DaysOption = DAYS,
) -> None:
    """Make a node's certificate and key: DIR/node-ID.pem and DIR/node-ID-key.pem.

    To renew them, run it again: it replaces both files. A running node reads the new ones.
    """
    _report(context, write_node(directory, node_id, hosts, days))


@app.command()
def user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")],
    directory: DirectoryOption,
    days: DaysOption = DAYS,
) -> None:
    """Make a user's certificate and key: DIR/user-NAME.pem and DIR/user-NAME-key.pem.

    To renew them, run it again: it replaces both files.
    """
    _report(context, write_user(directory, name, days))


@app.command()
def show(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Certificates in PEM.")],
) -> None:
    """Show what certificates say: names, serial number, validity, issuer, fingerprint.

    The serial number is in hexadecimal, as the deny list has it.
    """
    from raftkv import certs

    now = datetime.now(UTC)
    found = [
        (file, certs.facts_of(certificate))
        for file in files
        for certificate in _in_file(file, certs.load, _read(file))
    ]
    if options_of(context).output is Output.JSON:
        print_json([_fields_for_programs(file, facts, now) for file, facts in found])
        return
    for number, (file, facts) in enumerate(found):
        if number:
            typer.echo()
        print_values(Output.TABLE, _fields_for_people(file, facts, now))


# ---- files -----------------------------------------------------------------------------


def write_ca(directory: Path, cluster_name: str) -> tuple[Path, Path]:
    """Make a CA in `directory`, which is made if it is missing; returns certificate and key file.

    Raises `ConfigurationError` if there is one already, or if it can't be written.
    """
    from raftkv import certs

    for file in _files(directory, CA):
        if file.exists():
            raise ConfigurationError(
                f"{file} exists and is left as it is: certificates that it has signed would be"
                " worth nothing. Fix: name another directory, or use the CA in this one."
            )
    authority = certs.CertificateAuthority.new(cluster_name, datetime.now(UTC))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(directory, error) from None
    return _write(directory, CA, authority.pair)


def write_node(
    directory: Path, node_id: int, hosts: list[str] | None, days: int
) -> tuple[Path, Path]:
    """Make a node's certificate and key; returns the two files. `hosts` None: this machine alone.

    Raises `ConfigurationError` if `directory` has no CA that can sign them, for a wrong host, and
    if they can't be written.
    """
    from raftkv import certs

    now = datetime.now(UTC)
    pair = _authority(directory, now).node(node_id, hosts or certs.DEFAULT_HOSTS, days, now)
    return _write(directory, f"node-{node_id}", pair)


def write_user(directory: Path, name: str, days: int) -> tuple[Path, Path]:
    """Make a user's certificate and key; returns the two files.

    Raises `ConfigurationError` if `directory` has no CA that can sign them, for a name that can't
    stand in a certificate, and if they can't be written.
    """
    now = datetime.now(UTC)
    return _write(directory, f"user-{name}", _authority(directory, now).user(name, days, now))


def _files(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.pem", directory / f"{name}-key.pem"


def _authority(directory: Path, now: datetime) -> CertificateAuthority:
    from raftkv import certs

    certificate, key = _files(directory, CA)
    if not certificate.exists():
        raise ConfigurationError(
            f"{directory} has no CA: {certificate} is missing. Fix: make one with"
            f" `raftkv certs init {directory}`, or name the directory that has it with --dir."
        )
    return _in_file(directory, certs.CertificateAuthority.load, _read(certificate), _read(key), now)


def _write(directory: Path, name: str, pair: KeyPair) -> tuple[Path, Path]:
    """Write the key first: who finds a new certificate finds the key that belongs to it."""
    certificate, key = _files(directory, name)
    for file, content, mode in ((key, pair.key, 0o600), (certificate, pair.certificate, 0o644)):
        try:
            write_durably(file, content, mode)
        except OSError as error:
            raise _not_written(file, error) from None
    return certificate, key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{file} can't be read: {error.strerror}. Fix: name a file that is there and that you"
            " may read."
        ) from None


def _in_file(file: Path, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `read` returns; its error names the file."""
    try:
        return read(*args, **kwargs)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error.message}", file=str(file)) from None


def _not_written(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} can't be written: {error.strerror or os.strerror(error.errno or 0)}. Fix: name a"
        " directory that you may write to."
    )


# ---- output ----------------------------------------------------------------------------


def _report(context: typer.Context, files: tuple[Path, Path]) -> None:
    certificate, key = files
    print_values(options_of(context).output, {"certificate": str(certificate), "key": str(key)})


def _fields_for_people(file: Path, facts: CertificateFacts, now: datetime) -> dict[str, object]:
    days = facts.left(now).days
    left = f"{days} days left" if facts.left(now).total_seconds() > 0 else "EXPIRED"
    return {
        "file": file,
        "subject": facts.subject,
        "names": ", ".join(facts.names) or "none",
        "usage": ", ".join(facts.usage),
        "serial": facts.serial,
        "valid from": f"{facts.valid_from:%Y-%m-%d %H:%M} UTC",
        "valid until": f"{facts.valid_until:%Y-%m-%d %H:%M} UTC ({left})",
        "issuer": facts.issuer,
        "fingerprint": facts.fingerprint,
    }


def _fields_for_programs(file: Path, facts: CertificateFacts, now: datetime) -> dict[str, object]:
    return {
        "file": str(file),
        "subject": facts.subject,
        "names": facts.names,
        "usage": facts.usage,
        "serial": facts.serial,
        "valid_from": facts.valid_from.isoformat(),
        "valid_until": facts.valid_until.isoformat(),
        "days_left": facts.left(now).days,
        "issuer": facts.issuer,
        "fingerprint": facts.fingerprint,
    }
