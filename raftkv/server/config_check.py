"""Checks that need the files which a node's settings name, as the start of the node makes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raftkv.config import Settings
from raftkv.errors import RaftkvError
from raftkv.peer.secret import read_secret
from raftkv.server.bootstrap import join_metadata
from raftkv.server.security import client_store, peer_store
from raftkv.storage.directory import check_identity
from raftkv.tls.deny import DenyList


def problems_of_files(settings: Settings) -> list[RaftkvError]:
    """Every file that can't be used: secret, certificates, deny list, token, data directory.

    Changes nothing, and opens no port.
    """
    checks: tuple[Callable[[], object], ...] = (
        partial(read_secret, settings.cluster_secret_file),
        partial(client_store, settings),
        partial(peer_store, settings),
        partial(DenyList, settings.certificate_deny_file),
        partial(join_metadata, settings),
        partial(_check_directory, settings),
    )
    problems: list[RaftkvError] = []
    for check in checks:
        try:
            check()
        except RaftkvError as error:
            problems.append(error)
    return problems


def _check_directory(settings: Settings) -> None:
    """A new directory belongs to nobody yet: then the list of the first members must fit."""
    is_new = not check_identity(settings.data_dir, settings.cluster_name, settings.node_id)
    if is_new and not settings.join:
        settings.require_founder()
