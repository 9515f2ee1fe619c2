"""Planted bugs that make replicas in different processes differ."""

from __future__ import annotations

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.kv import operations
from raftkv.kv.execution import Execution
from raftkv.kv.pace import Steps
from raftkv.kv.ranges import Row
from raftkv.kv.sessions import Sessions
from raftkv.rpc.v1 import kv_pb2

# One process runs all nodes of a simulation: they have one order of hashes, and all asserts.


@mutant(
    "the order of a set decides what is applied",
    "anything",
    # This process has a hash seed of its own, so that the model may differ already.
    caught_by="replica with PYTHONHASHSEED=1 holds other|differs from the model",
    in_replicas=True,
)
def keys_are_deleted_in_the_order_of_a_set() -> list[Patch]:
    """A deletion of a range takes its keys from a set, whose order depends on their hashes."""
    doomed = operations._keys_to_delete

    def doomed_in_any_order(
        execution: Execution, request: kv_pb2.DeleteRange
    ) -> Steps[tuple[list[Row], bool]]:
        found, more = yield from doomed(execution, request)
        rows = dict(found)
        return [(key, rows[key]) for key in set(rows)], more

    return [(operations, "_keys_to_delete", doomed_in_any_order)]


@mutant(
    "an assert has an effect",
    "anything",
    caught_by="replica with python -O holds other",
    in_replicas=True,
)
def results_are_forgotten_in_an_assert() -> list[Patch]:
    """`python -O` removes the assert, and with it the call that forgets acknowledged results."""
    acknowledge = Sessions.acknowledge

    def acknowledge_in_an_assert(self: Sessions, session: int, through: int) -> None:
        assert acknowledge(self, session, through) is None

    return [(Sessions, "acknowledge", acknowledge_in_an_assert)]


MUTANTS = (keys_are_deleted_in_the_order_of_a_set, results_are_forgotten_in_an_assert)
