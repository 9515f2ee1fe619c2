"""Keys with all their versions, and the changes that one command makes to them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from jepsen_lite.model.refusals import Refusal
from raftkv.rpc.v1 import kv_pb2

EMPTY_STORE = 1
"""The revision of a store in which nothing was ever written."""


@dataclass(frozen=True, slots=True)
class Version:
    """A key as one revision left it."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @property
    def fields(self) -> tuple[int, int, int, int, bytes]:
        """All but the key."""
        return (
            self.create_revision,
            self.mod_revision,
            self.version,
            self.lease,
            self.value,
        )

    def message(self, *, keys_only: bool = False) -> kv_pb2.KeyValue:
        return kv_pb2.KeyValue(
            key=self.key,
            value=b"" if keys_only else self.value,
            create_revision=self.create_revision,
            mod_revision=self.mod_revision,
            version=self.version,
            lease=self.lease,
        )


class KeyChange(NamedTuple):
    """A key was put or deleted."""

    key: bytes
    deleted: bool


def in_range(keys: list[bytes], key: bytes, range_end: bytes) -> list[bytes]:
    """Those of the sorted `keys` that a range selects."""
    if not range_end:
        at = bisect_left(keys, key)
        return keys[at : at + 1] if keys[at : at + 1] == [key] else []
    end = len(keys) if range_end == b"\0" else bisect_left(keys, range_end)
    return keys[bisect_left(keys, key) : end]


@dataclass(slots=True)
class Keys:
    """All keys. No version is ever forgotten: `compacted` states which can't be read any more."""

    revision: int = EMPTY_STORE
    compacted: int = 0
    history: dict[bytes, list[tuple[int, Version | None]]] = field(default_factory=dict)
    """Of each key: (revision, what the key was from then on), `None` once it is deleted."""
    changes: dict[int, list[KeyChange]] = field(default_factory=dict)
    """The changes of each revision, in their order."""
    living: list[bytes] = field(default_factory=list)
    ever: list[bytes] = field(default_factory=list)

    def get(self, key: bytes) -> Version | None:
        versions = self.history.get(key)
        return versions[-1][1] if versions else None

    def get_at(self, key: bytes, revision: int) -> Version | None:
        """The key as it was at a revision."""
        found = None
        for changed_at, version in self.history.get(key, ()):
            if changed_at <= revision:
                found = version
        return found

    def present(self) -> Iterator[Version]:
        """All living keys, sorted."""
        for key in self.living:
            version = self.get(key)
            assert version is not None
            yield version

    def commit(self, draft: Draft) -> None:
        """The draft's changes become the next revision, if there are any."""
        if not draft.changed:
            return
        self.revision += 1
        self.changes[self.revision] = draft.changes
        for key, version in draft.changed.items():
            before = self.get(key)
            if before is None and version is not None:
                insort(self.living, key)
            elif before is not None and version is None:
                del self.living[bisect_left(self.living, key)]
            if key not in self.history:
                self.history[key] = []
                insort(self.ever, key)
            self.history[key].append((self.revision, version))

    def check_readable(self, revision: int) -> None:
        if revision > self.revision:
            raise Refusal("REVISION_IN_FUTURE")
        if 0 < revision < self.compacted:
            raise Refusal("REVISION_COMPACTED", compacted_revision=self.compacted)


class Draft:
    """The keys as one command sees them: those of the store with the command's own changes."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.changed: dict[bytes, Version | None] = {}
        self.changes: list[KeyChange] = []

    @property
    def next_revision(self) -> int:
        return self.keys.revision + 1

    @property
    def revision(self) -> int:
        """The revision of the change, or of the store while nothing has changed."""
        return self.next_revision if self.changed else self.keys.revision

    def get(self, key: bytes) -> Version | None:
        return self.changed[key] if key in self.changed else self.keys.get(key)

    def range(self, key: bytes, range_end: bytes) -> list[Version]:
        """The living keys of a range, sorted."""
        found = in_range(self.keys.living, key, range_end)
        if self.changed:
            added = in_range(sorted(self.changed), key, range_end)
            found = sorted({*found, *added})
        return [version for each in found if (version := self.get(each)) is not None]

    def range_at(self, key: bytes, range_end: bytes, revision: int) -> list[Version]:
        """The keys of a range at a revision of the store, sorted."""
        found = in_range(self.keys.ever, key, range_end)
        return [version for each in found if (version := self.keys.get_at(each, revision))]

    def put(self, key: bytes, value: bytes, lease: int) -> Version:
        before = self.get(key)
        version = Version(
            key,
            value,
            before.create_revision if before else self.next_revision,
            self.next_revision,
            before.version + 1 if before else 1,
            lease,
        )
        self._change(key, version)
        return version

    def delete(self, key: bytes) -> None:
        self._change(key, None)

    def _change(self, key: bytes, version: Version | None) -> None:
        self.changed[key] = version
        self.changes.append(KeyChange(key, version is None))
