"""A state machine beside the independent model: every result and the whole state are compared."""

from __future__ import annotations

from jepsen_lite.model.bounds import Bounds
from jepsen_lite.model.machine import StateMachineModel
from jepsen_lite.model.refusals import Refusal
from jepsen_lite.sim.checks.message_differences import first_difference
from jepsen_lite.sim.checks.model_state import state_difference
from raftkv.kv.machine import Applied
from raftkv.kv.pace import run
from raftkv.raft.entry import Entry
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2

from .harness import Authored, Driver


class DriverBesideModel(Driver):
    """A driver whose entries the model applies, too."""

    def __init__(self, bounds: Bounds, version: int = 0) -> None:
        self.model = StateMachineModel(bounds)
        super().__init__(version=version)

    def apply(self, each: Entry) -> list[Applied]:
        applied = super().apply(each)
        kind = log_pb2.EntryKind.Value(f"ENTRY_KIND_{each.kind.name}")
        results = self.model.apply(each.index, each.term, kind, each.payload)
        for here, model in zip(applied, results, strict=True):
            assert not first_difference(pb.BatchResult.FromString(here.result), model)
        assert not state_difference(self.store, self.model.state)
        return applied

    def checked(self, commands: pb.CommandBatch, user: int) -> Authored:
        """The batch as a node submits it that has applied everything: checked against the rights
        of now. Without the rights it is from a node that is behind.
        """
        users = self.model.state.users
        users.caller = user
        try:
            for command in commands.commands:
                users.check_allowed(command)
        except Refusal:
            return Authored(commands, user)
        return Authored(commands, user, users.revision)

    def compare_read(self, request: pb.Range) -> None:
        assert not first_difference(run(self.machine.read(request)), self.model.read(request))
