"""Every committed entry is applied to one independent model, and every node is compared with it.

What is wrong on all replicas alike can't be seen by comparing replicas.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from jepsen_lite.model.machine import StateMachineModel
from jepsen_lite.sim.checks.disk_losses import Replica
from jepsen_lite.sim.checks.message_differences import first_difference
from jepsen_lite.sim.checks.model_state import state_difference
from jepsen_lite.sim.checks.violation import Violation
from raftkv.kv.machine import Applied
from raftkv.kv.store import StateStore
from raftkv.raft.entry import Entry
from raftkv.rpc.v1 import kv_pb2, log_pb2


class ModelComparison:
    """Raises `Violation` where a node's results or its state differ from the model's.

    The model is as far as the node that has applied most. So the whole state of a node is compared
    when no other node is ahead of it; the nodes behind it are compared with each other.
    """

    def __init__(self) -> None:
        self.checks = 0
        self._model = StateMachineModel()
        self._to_apply: deque[Entry] = deque()
        self._results: dict[int, list[kv_pb2.BatchResult]] = {}
        self._agreed: set[tuple[int, int, bytes]] = set()
        """(index, place in the entry, result as a node has encoded it) that mean the model's."""
        self._to_compare: defaultdict[Replica, list[tuple[int, Applied]]] = defaultdict(list)
        self._compared_index = 0

    @property
    def index(self) -> int:
        """Of the last entry that the model has applied."""
        return self._model.state.index

    def committed(self, entry: Entry) -> None:
        """The entry follows the last committed one."""
        self._to_apply.append(entry)

    def ran(self, replica: Replica, applied: Sequence[Applied]) -> None:
        """The replica's state machine has computed these results."""
        previous, place = 0, 0
        for each in applied:
            place = place + 1 if each.index == previous else 0
            previous = each.index
            self._to_compare[replica].append((place, each))

    def applied(self, replica: Replica, index: int) -> None:
        """The replica has applied everything up to `index`, all of which is committed."""
        while self.index < index:
            entry = self._to_apply.popleft()
            kind = log_pb2.EntryKind.Value(f"ENTRY_KIND_{entry.kind.name}")
            results = self._model.apply(entry.index, entry.term, kind, entry.payload)
            self._results[entry.index] = results
        for place, each in self._to_compare.pop(replica, ()):
            if each.index <= self.index:  # else its process died, and applies the entry again
                self._compare_result(replica, each, place)

    def _compare_result(self, replica: Replica, applied: Applied, place: int) -> None:
        name = (applied.index, place, applied.result)
        if name in self._agreed:
            return
        self.checks += 1
        model = self._results[applied.index][place]
        difference = first_difference(kv_pb2.BatchResult.FromString(applied.result), model)
        if difference is not None:
            raise Violation(
                f"node {replica} differs from the model after entry {applied.index}, batch"
                f" {place}: {difference}"
            )
        self._agreed.add(name)

    def compare_state(self, replica: Replica, store: StateStore, index: int) -> None:
        """The store holds the replica's whole state at `index`."""
        if index != self.index or index == self._compared_index:
            return
        self._compared_index = index
        self.checks += 1
        difference = state_difference(store, self._model.state)
        if difference is not None:
            raise Violation(
                f"node {replica} differs from the model after entry {index}: {difference}"
            )
