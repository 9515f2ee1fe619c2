"""What the stores have promised at a moment of a recording, from the notes up to that moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from jepsen_lite.power_cuts.notes import Note, unpack_entries, unpack_hard_state
from raftkv.raft.entry import Entry, HardState
from raftkv.storage.log_store import BATCH_BYTES_MAX
from raftkv.storage.ports import RecoveredLog


@dataclass(frozen=True, slots=True)
class LogImage:
    """The content of a log store. `point` is (index, term, hash) of the last dropped entry."""

    hard_state: HardState = field(default_factory=HardState)
    point: tuple[int, int, int] = (0, 0, 0)
    entries: tuple[Entry, ...] = ()
    starts: int = 0

    @classmethod
    def of(cls, log: RecoveredLog) -> LogImage:
        """The content of a recovered log."""
        point = log.compacted_index, log.compacted_term, log.compacted_hash
        return cls(log.hard_state, point, tuple(log.entries), log.starts.own.number)

    @property
    def last_index(self) -> int:
        return self.point[0] + len(self.entries)

    def between(self, after: int, through: int) -> list[Entry]:
        """The entries with indexes above `after`, up to and including `through`."""
        return [each for each in self.entries if after < each.index <= through]

    def after(self, note: Note) -> list[LogImage]:
        """The images that the request of this note may leave if it is interrupted, in order; the
        last one is left when it is complete. Empty if it is not a request to the log.
        """
        match note["begin"]:
            case "append":
                return list(self._appended(note))
            case "compact":
                index = note["point"][0]
                kept = tuple(each for each in self.entries if each.index > index)
                return [replace(self, point=tuple(note["point"]), entries=kept)]
            case "reset":
                return [replace(self, point=tuple(note["point"]), entries=())]
            case "starts":
                return [replace(self, starts=note["number"])]
        return []

    def _appended(self, note: Note) -> Iterator[LogImage]:
        new, hard_state = unpack_entries(note["entries"]), unpack_hard_state(note["hard_state"])
        kept = self.entries
        if new:
            kept = tuple(each for each in kept if each.index < new[0].index)
        if sum(len(each.payload) for each in new) >= BATCH_BYTES_MAX:
            # Written in parts. The commit index, which may cover later parts, comes with the last.
            early = self.hard_state
            if hard_state is not None:
                known = min(hard_state.commit_index, self.hard_state.commit_index)
                early = replace(hard_state, commit_index=known)
            for count in range(1, len(new)):
                yield replace(self, hard_state=early, entries=kept + new[:count])
        yield replace(self, hard_state=hard_state or self.hard_state, entries=kept + new)


@dataclass(slots=True)
class Promises:
    """What the notes up to now promise."""

    log: LogImage = field(default_factory=LogImage)
    """The content that was acknowledged last."""

    unfinished: list[LogImage] = field(default_factory=list)
    """The images that the request under way may leave."""

    member: bool = False
    """Whether the first start was completed: the node must be there from then on."""

    applied_synced: int = 0
    """The state goes at least up to this index."""

    applied_begun: int = 0
    """The state goes at most up to this index, or is the snapshot under way."""

    snapshot: int | None = None
    """The index of the snapshot whose installation is under way."""

    _applied_at_sync: int = 0
    _request: Note = field(default_factory=dict)

    def follow(self, note: Note) -> None:
        """Take the next note."""
        if "begin" in note:
            self._request = note
            self.unfinished = self.log.after(note)
            match note["begin"]:
                case "apply":
                    self.applied_begun = note["through"]
                case "sync":
                    self._applied_at_sync = self.applied_begun
                case "install":
                    self.snapshot = note["entries"][-1][1]
            return
        if self.unfinished:
            self.log = self.unfinished[-1]
            self.unfinished = []
        match note["acknowledged"]:
            case "member":
                self.member = True
            case "sync":
                self.applied_synced = self._applied_at_sync
            case "install":
                self.applied_synced = self.applied_begun = self.snapshot or 0
                self.snapshot = None

    def broken_by(self, log: RecoveredLog) -> str:
        """Why the log that was found is not what was promised; empty if it is."""
        found = LogImage.of(log)
        allowed = [self.log, *self.unfinished]
        if found in allowed:
            return ""
        last = max(allowed, key=lambda image: image.last_index)
        return f"the log holds {_described(found)}, but {_described(self.log)} was acknowledged" + (
            f" and {_described(last)} was being written" if self.unfinished else ""
        )

    def broken_by_state(self, applied: int) -> str:
        """Why a state up to this index is not what was promised; empty if it is."""
        if self.applied_synced <= applied <= self.applied_begun or applied == self.snapshot:
            return ""
        return (
            f"the state ends at index {applied}, but it was synced up to {self.applied_synced} and"
            f" written up to {self.applied_begun}"
        )


def committed_entries(notes: Sequence[Note]) -> list[Entry]:
    """All entries that the workload has committed, in order. The last ones may not be applied."""
    promises = Promises()
    entries: list[Entry] = []
    for note in notes:
        if note.get("begin") == "apply":
            entries += promises.log.between(len(entries), note["through"])
        elif note.get("begin") == "install":
            entries += unpack_entries(note["entries"])
        promises.follow(note)
    return entries + promises.log.between(len(entries), promises.log.hard_state.commit_index)


def _described(image: LogImage) -> str:
    hard_state = image.hard_state
    return (
        f"entries {image.point[0] + 1}..{image.last_index} with term {hard_state.current_term},"
        f" vote {hard_state.voted_for}, commit index {hard_state.commit_index},"
        f" start {image.starts}"
    )
