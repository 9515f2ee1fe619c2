"""Reloads the settings of a running node: applies the live ones and names the others."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from raftkv.config import LIVE_SETTINGS, Settings
from raftkv.config_sources import DEFAULTS, as_text, value_of
from raftkv.errors import ConfigurationError
from raftkv.logs import Logger, set_level, write_at_any_level
from raftkv.rpc.v1 import api_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Reload:
    """What a reload has changed, and what takes effect only when the node is restarted.

    A change has the text of the value that the node runs with, and of that in the sources.
    """

    changed: tuple[api_pb2.SettingChange, ...]
    needs_restart: tuple[api_pb2.SettingChange, ...]


ReloadSettings: TypeAlias = Callable[[], Awaitable[Reload]]


async def no_sources() -> Reload:
    """The reload of a node whose settings have no sources, because a program has made them."""
    raise ConfigurationError(
        "the settings of this node come from the program that has started it, and can't be read"
        " again. Fix: change them there, and restart the node."
    )


class SettingsReload:
    """The settings of a running node, reloaded from their sources.

    `read` reads all sources, on a thread. `apply` gets the settings that the node has from then on:
    they differ from the former ones in `LIVE_SETTINGS` only.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        apply: Callable[[Settings], None],
        log: Logger,
    ) -> None:
        self._running = settings
        self._read = read
        self._apply = apply
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Reload:
        """Read the sources and apply what has changed. The log has the result at any level.

        Raises `ConfigurationError` if the sources have an invalid setting: then nothing changes.
        """
        async with self._one_at_a_time:
            try:
                # On a thread: the event loop must not wait for a disk.
                wanted = await asyncio.to_thread(self._read)
            except ConfigurationError as error:
                self._log.error("settings_not_reloaded", message=error.message)
                raise
            return self._reload(wanted)

    def _reload(self, wanted: Settings) -> Reload:
        changes = _changes(self._running, wanted)
        live = tuple(each for each in changes if each.name in LIVE_SETTINGS)
        others = tuple(each for each in changes if each.name not in LIVE_SETTINGS)
        if live:
            values: dict[str, Any] = {each.name: value_of(wanted, each.name) for each in live}
            self._running = dataclasses.replace(self._running, **values)
            if "log_level" in values:
                set_level(self._running.log_level)
            self._apply(self._running)
        write_at_any_level(
            self._log,
            "info",
            "settings_reloaded",
            changed={each.name: each.after for each in live},
            needs_restart=[each.name for each in others],
        )
        return Reload(live, others)


def _changes(before: Settings, after: Settings) -> list[api_pb2.SettingChange]:
    return [
        api_pb2.SettingChange(
            name=name,
            before=as_text(value_of(before, name)),
            after=as_text(value_of(after, name)),
        )
        for name in DEFAULTS
        if value_of(before, name) != value_of(after, name)
    ]
