"""The flags of a node's settings, shared by `serve` and `config show`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.errors import ConfigurationError

if TYPE_CHECKING:
    from raftkv.config_sources import Loaded

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="RAFTKV_CONFIG", help="TOML file with settings."),
]
NodeId = Annotated[
    str | None, typer.Option(metavar="N", help="This node's id, unique in its cluster. [1]")
]
ClusterName = Annotated[str | None, typer.Option(metavar="NAME", help="The same on every node.")]
DataDir = Annotated[
    str | None, typer.Option(metavar="DIR", help="Where the data live. [data/node-N]")
]
ClientListen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="For clients. [127.0.0.1:7410+N]")
]
PeerListen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="For other nodes. [127.0.0.1:7510+N]")
]
ClientAdvertise = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="What clients connect to. [client-listen]")
]
PeerAdvertise = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="What peers connect to. [peer-listen]")
]
InitialMembers = Annotated[
    str | None,
    typer.Option(
        metavar="N=PEER/CLIENT,...",
        help="The cluster's first nodes, with their host:port for nodes and for clients,"
        " the same text on every node. [this node alone]",
    ),
]
BootstrapWithout = Annotated[
    str | None,
    typer.Option(
        metavar="N,...",
        help="First nodes that will never come. Only if you know that their disks hold nothing.",
    ),
]
ClusterSecretFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The secret that authenticates nodes, the same on every node."
        " `raftkv secret new` writes one.",
    ),
]
Join = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...",
        help="Client addresses of nodes of a running cluster that this one was added to.",
    ),
]
AllowInsecureNetwork = Annotated[
    bool | None,
    typer.Option(
        "--allow-insecure-network",
        help="Listen off loopback although nothing is encrypted or authenticated.",
    ),
]
LogLevel = Annotated[
    str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. [info]")
]
LogFormat = Annotated[str | None, typer.Option(metavar="FORMAT", help="console or json. [console]")]
TraceMessages = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Write each Raft message with its vector clock there, JSON lines. [no tracing]",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting, as `raftkv config show` lists them; may be repeated.",
    ),
]


def load_settings(
    config: Path | None, flags: Mapping[str, str | bool | None], assignments: Sequence[str] | None
) -> Loaded:
    """Settings from the flags that were given, the environment and the file."""
    from raftkv.config_sources import load

    return load(config, os.environ, given_flags(flags, assignments))


def given_flags(
    flags: Mapping[str, str | bool | None], assignments: Sequence[str] | None
) -> dict[str, str | bool]:
    """The flags that were given and the assignments of --set, by the dotted names of settings."""
    given = {name: value for name, value in flags.items() if value is not None}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigurationError(
                f"--set {assignment} has no value. Fix: write --set name=value.", key=name
            )
        given[name.strip().replace("-", "_")] = value
    return given
