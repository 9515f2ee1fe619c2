"""Observes commands: first runs, retries, refusals, and the way of a write to its leader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jepsen_lite.sim.coverage.mark import (
    COMMAND_EVENTS,
    REFUSALS_OF_NODES,
    Reach,
    batch_refused,
    command_at,
    command_refused,
)
from jepsen_lite.sim.coverage.wraps import Wraps
from raftkv.client.connection.retries import BatchReplies
from raftkv.errors import Overloaded, RaftkvError, SessionExpired
from raftkv.kv import machine as machine_module
from raftkv.kv.commands import CommandRunner
from raftkv.kv.idempotency import IdempotencyKeys
from raftkv.kv.machine import StateMachine
from raftkv.kv.sessions import Sessions
from raftkv.node.node import Node
from raftkv.node.proposal_queue import ProposalQueue
from raftkv.node.proposals import PendingProposals
from raftkv.rpc.v1 import kv_pb2, log_pb2
from raftkv.wire.failures import error_of

FIRST, RETRY, AFTER_EXPIRY, AT_A_FOLLOWER = COMMAND_EVENTS


def observe_commands(wraps: Wraps, reach: Reach) -> None:
    """Each command, and how the state machine meets it."""
    running = b""
    """The batch that is being applied."""

    def reach_each(commands: Iterable[kv_pb2.Command], event: str) -> None:
        for command in commands:
            kind = command.WhichOneof("command")
            if kind is not None:
                reach(command_at(kind, event))

    def of(batch: bytes) -> Iterable[kv_pb2.Command]:
        return kv_pb2.CommandBatch.FromString(batch).commands

    @wraps.around(StateMachine, "_run_submission")
    def run_submission(
        original: Callable[..., Any], machine: StateMachine, submission: log_pb2.Submission
    ) -> Any:
        nonlocal running
        running = submission.commands
        return (yield from original(machine, submission))

    @wraps.around(StateMachine, "_run_batch")
    def run_batch(
        original: Callable[..., Any], machine: StateMachine, batch: kv_pb2.CommandBatch
    ) -> Any:
        reach_each(batch.commands, FIRST)
        return (yield from original(machine, batch))

    @wraps.around(Sessions, "result")
    def result(original: Callable[..., Any], *args: Any) -> bytes | None:
        remembered: bytes | None = original(*args)
        if remembered is not None:
            reach("a retry is answered from memory")
            reach_each(of(running), RETRY)
        return remembered

    @wraps.around(machine_module, "_refusal")
    def refusal(original: Callable[..., bytes], error: RaftkvError) -> bytes:
        if isinstance(error, SessionExpired):
            reach_each(of(running), AFTER_EXPIRY)
        elif "acknowledged" in error.facts:
            reach("a retry arrives after its result was acknowledged")
        elif isinstance(error, Overloaded):
            reach("a session has no room for a result")
        return original(error)

    @wraps.around(Node, "submit")
    def submit(
        original: Callable[..., Any], node: Node, commands: bytes, *args: Any, **kw: Any
    ) -> Any:
        if not node.core.leads:
            reach_each(of(commands), AT_A_FOLLOWER)
        return original(node, commands, *args, **kw)

    @wraps.around(CommandRunner, "_fail")
    def fail(
        original: Callable[..., None], runner: CommandRunner, result: Any, error: RaftkvError
    ) -> None:
        reach(command_refused(error.reason))
        original(runner, result, error)

    @wraps.around(CommandRunner, "_dispatch")
    def dispatch(
        original: Callable[..., Any],
        runner: CommandRunner,
        command: kv_pb2.Command,
        result: kv_pb2.Result,
        execution: Any,
    ) -> Any:
        yield from original(runner, command, result, execution)
        match command.WhichOneof("command"):
            case "transaction":
                succeeded = result.transaction.succeeded
                reach(
                    "a transaction runs its success branch"
                    if succeeded
                    else "a transaction runs its failure branch"
                )
            case "compare_and_swap":
                swapped = result.compare_and_swap.swapped
                reach("a comparison swaps" if swapped else "a comparison does not swap")
            case "delete_range" if command.delete_range.range_end:
                reach("a range of keys is deleted")
                if result.delete_range.more:
                    reach("a range deletion reaches its limit")
            case "put" if command.put.lease:
                reach("a key is attached to a lease")
            case "acquire" if not result.acquire.token:
                reach("an acquire does not join: the lock is held")
            case "acquire":
                held = result.acquire.held
                reach("an acquire finds the lock free" if held else "an acquire joins the queue")

    @wraps.around(IdempotencyKeys, "result")
    def key_result(original: Callable[..., Any], keys: IdempotencyKeys, command: Any) -> Any:
        found = original(keys, command)
        reach("an idempotency key is used" if found is None else "an idempotency key is repeated")
        return found

    @wraps.around(IdempotencyKeys, "remove_expired")
    def remove_expired(original: Callable[..., int], *args: Any) -> int:
        removed = original(*args)
        if removed:
            reach("an idempotency key expires")
        return removed


def observe_proposals(wraps: Wraps, reach: Reach) -> None:
    """Writes between the node that took them and the leader."""

    @wraps.around(PendingProposals, "add")
    def add(original: Callable[..., None], *args: Any) -> None:
        try:
            original(*args)
        except Overloaded:
            reach("a node refuses a write: too many are pending")
            raise

    @wraps.around(PendingProposals, "revive_before")
    def revive_before(original: Callable[..., None], pending: PendingProposals, term: int) -> None:
        if any(0 < waiting.term < term for waiting in pending._waiting.values()):
            reach("a write is proposed again under a later leader")
        original(pending, term)

    @wraps.around(PendingProposals, "take_overdue")
    def take_overdue(original: Callable[..., Sequence[Any]], *args: Any) -> Sequence[Any]:
        overdue = original(*args)
        if overdue:
            reach("a forwarded write is sent again")
        return overdue

    @wraps.around(PendingProposals, "refused")
    def refused(original: Callable[..., None], *args: Any) -> None:
        reach("a leader refuses a forwarded write")
        original(*args)

    @wraps.around(PendingProposals, "_late")
    def late(original: Callable[..., RaftkvError], pending: PendingProposals, waiting: Any) -> Any:
        if waiting.certainly_not_applied:
            reach("a write is never taken by a leader")
        else:
            reach("a write is not applied in time")
        return original(pending, waiting)

    @wraps.around(PendingProposals, "fail_all")
    def fail_all(original: Callable[..., None], pending: PendingProposals, *args: Any) -> None:
        if len(pending):
            reach("a node stops with pending writes")
        original(pending, *args)

    @wraps.around(ProposalQueue, "add")
    def queue(
        original: Callable[..., list[Any]],
        proposals: ProposalQueue,
        sender: int,
        submissions: Iterable[Any],
        settled: int,
    ) -> list[Any]:
        given = list(submissions)
        for submission in given:
            if submission.number in proposals._taken.get((sender, submission.origin), ()):
                reach("a leader drops a write that it has already")
        over = original(proposals, sender, given, settled)
        if over:
            reach("a leader has no room for a node's writes")
        return over

    @wraps.around(BatchReplies, "note_refusal")
    def note_refusal(
        original: Callable[..., Any], replies: Any, endpoint: Any, failure: Any
    ) -> Any:
        reason = error_of(failure).reason
        if reason in REFUSALS_OF_NODES:
            reach(batch_refused(reason))
        return original(replies, endpoint, failure)
