"""`raftkv serve`: one node in the foreground, until a signal stops it or it stops itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from raftkv.cli import settings_flags as flags
from raftkv.cli.exit_codes import ExitCode, exit_code_of
from raftkv.errors import (
    AddressInUse,
    ConfigurationError,
    InvariantViolation,
    RaftkvError,
    RemovedFromCluster,
)

if TYPE_CHECKING:
    from raftkv.config import Settings
    from raftkv.server.process import NodeProcess


def serve(
    config: flags.Config = None,
    node_id: flags.NodeId = None,
    cluster_name: flags.ClusterName = None,
    data_dir: flags.DataDir = None,
    client_listen: flags.ClientListen = None,
    peer_listen: flags.PeerListen = None,
    client_advertise: flags.ClientAdvertise = None,
    peer_advertise: flags.PeerAdvertise = None,
    initial_members: flags.InitialMembers = None,
    bootstrap_without: flags.BootstrapWithout = None,
    join: flags.Join = None,
    cluster_secret_file: flags.ClusterSecretFile = None,
    allow_insecure_network: flags.AllowInsecureNetwork = None,
    log_level: flags.LogLevel = None,
    log_format: flags.LogFormat = None,
    trace_messages: flags.TraceMessages = None,
    assignments: flags.Assignments = None,
) -> None:
    """Run one node.

    A setting comes from its flag, else from RAFTKV_<NAME>, else from the TOML file, else from
    its default. SIGTERM or Ctrl-C stops the node gracefully: it hands leadership on first.
    SIGHUP reads the settings again, as `raftkv config reload` does: a node outlives its terminal.
    SIGUSR1 writes tasks and queues to the log. Logs go to standard error. Under systemd, use
    Type=notify.
    """
    read = functools.partial(
        _read_settings,
        config,
        {
            "node_id": node_id,
            "cluster_name": cluster_name,
            "data_dir": data_dir,
            "client_listen": client_listen,
            "peer_listen": peer_listen,
            "client_advertise": client_advertise,
            "peer_advertise": peer_advertise,
            "initial_members": initial_members,
            "bootstrap_without": bootstrap_without,
            "join": join,
            "cluster_secret_file": cluster_secret_file,
            "allow_insecure_network": allow_insecure_network,
            "log_level": log_level,
            "log_format": log_format,
            "trace_messages": trace_messages,
        },
        assignments,
    )
    raise typer.Exit(run(read))


def _read_settings(
    config: Path | None, given: Mapping[str, str | bool | None], assignments: list[str] | None
) -> Settings:
    return flags.load_settings(config, given, assignments).settings


def run(read_settings: Callable[[], Settings]) -> ExitCode:
    """Run a node until it stops; the exit code is the reason."""
    import os

    from raftkv import logs
    from raftkv.cli import event_loop
    from raftkv.server import resources

    # Only this user may access the files of this process: data, snapshots, traces.
    os.umask(0o077)
    settings = read_settings()
    resources.raise_soft_limit()
    logs.configure(settings.log_format, settings.log_level)
    return event_loop.run(_serve(settings, read_settings))


async def _serve(settings: Settings, read_settings: Callable[[], Settings]) -> ExitCode:
    import asyncio
    import os

    from raftkv import logs
    from raftkv.cli.event_loop import collect_garbage
    from raftkv.cli.sd_notify import Notifier
    from raftkv.server.process import NodeProcess

    log = logs.get_logger(node=settings.node_id)
    process = NodeProcess(settings, read_settings=read_settings)
    signalled = asyncio.create_task(_signalled(process))
    notifier = Notifier(os.environ)
    notifying = asyncio.create_task(notifier.run(process.describe))
    try:
        # Before the data directory is created: a node that can't listen changes nothing on disk.
        check_free("client_listen", settings.client_listen)
        check_free("peer_listen", settings.peer_listen)
        if settings.has_http_port:
            check_free("http_listen", settings.http_listen)
        starting = asyncio.create_task(process.start())
        await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return ExitCode.OK
        starting.result()
        notifier.ready()
        collecting = asyncio.create_task(collect_garbage())
        stopped = asyncio.create_task(process.wait_stopped())
        await asyncio.wait({stopped, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            log.info("signal_received", signal=signalled.result())
        reason = stopped.result() if stopped.done() else None
        collecting.cancel()
        notifier.stopping()
        await process.stop()
        if isinstance(reason, RemovedFromCluster):
            # A requested end: exit with 0, so that a supervisor does not restart the process.
            log.warning("removed_from_cluster", message=reason.message)
        elif reason is not None:
            raise reason
    except RaftkvError as error:
        if settings.log_format == "json":
            log.error("server_failed", reason=error.reason, message=error.message)
            return exit_code_of(error)
        raise
    except InvariantViolation as violation:
        log.exception("safety_check_failed", invariant=violation.invariant)
        return ExitCode.INVARIANT
    finally:
        notifying.cancel()
    return ExitCode.OK


def check_free(key: str, address: str) -> None:
    """Raises `AddressInUse` if another process listens there, `ConfigurationError` if none can."""
    import errno
    import socket

    from raftkv.config import split_address

    host, port = split_address(key, address)
    try:
        family, kind, _, _, socket_address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(socket_address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"{key} {address} is in use by another process. Fix: stop that one, or choose"
                f" another port for {key}.",
                key=key,
            ) from None
        raise ConfigurationError(
            f"{key} {address} can't be listened on: {error.strerror}. Fix: choose an address of"
            " this machine and a port that you may use.",
            key=key,
        ) from None


async def _signalled(process: NodeProcess) -> str:
    """The name of the first signal that stops this process. A second one ends it at once, which
    loses no acknowledged write. Meanwhile SIGHUP reloads the settings, and SIGUSR1 writes what the
    node does to the log.
    """
    import asyncio
    import os
    import signal

    from raftkv.cli.event_loop import ignored

    loop = asyncio.get_running_loop()
    first: asyncio.Future[str] = loop.create_future()

    def note(number: signal.Signals) -> None:
        if first.done():
            os._exit(128 + number)
        first.set_result(number.name)

    reloading: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(process))
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        if not ignored(number):
            loop.add_signal_handler(number, note, number)
    if not ignored(signal.SIGHUP):
        loop.add_signal_handler(signal.SIGHUP, reload)
    if not ignored(signal.SIGUSR1):
        loop.add_signal_handler(signal.SIGUSR1, process.dump)
    return await first


async def _reload(process: NodeProcess) -> None:
    # The log has the reason of a failure.
    with suppress(ConfigurationError):
        await process.reload_settings()
