"""Proposals on their way into the log: forwarded to the leader, or appended by this leader."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from raftkv.kv.pace import Steps
from raftkv.kv.validation import check_forwarded
from raftkv.node.clocks import ClusterClock
from raftkv.node.config import NodeConfig
from raftkv.node.flow_control import BATCH_COMMANDS_ADVISED
from raftkv.node.proposal_queue import ProposalQueue
from raftkv.node.proposals import PendingProposals, in_parts
from raftkv.node.run_loop import RunLoop
from raftkv.peer.ports import Forward, ForwardRefused, Frame, PeerLinks, Submission
from raftkv.raft.raft import Raft
from raftkv.rpc.v1 import log_pb2

_DONE = object()
"""An exhausted iteration."""


class Proposer:
    """Proposes what clients of this node submit, and at the leader what other nodes forward.

    `pending` has the proposals of this node's clients until their results are known.
    """

    def __init__(
        self,
        raft: Raft,
        config: NodeConfig,
        links: PeerLinks,
        clock: ClusterClock,
        run: RunLoop,
        origin: int,
        in_dispute: Callable[[], bool],
    ) -> None:
        """While `in_dispute` returns true, no proposal of a client is proposed."""
        self.pending = PendingProposals(
            origin, config.submissions_in_flight_max, config.uncommitted_bytes_max
        )
        self._raft = raft
        self._config = config
        self._links = links
        self._clock = clock
        self._run = run
        self._in_dispute = in_dispute
        # An honest node stays below its own bound, which may be a little above ours.
        self._queue = ProposalQueue(2 * config.uncommitted_bytes_max)
        self._unchecked: deque[tuple[int, Forward]] = deque()
        """Forwards with their senders, before validation."""
        self._validation: Steps[None] | None = None
        """The validation of one forward, which is under way."""

    @property
    def batch_commands_advised(self) -> int:
        """How many commands a client should put in a batch at most; 0: any number.

        The leader knows the load of clients of all nodes, a follower that of its own clients.
        """
        mixed = self.pending.load.is_on or (self._raft.leads and self._queue.load.is_on)
        return BATCH_COMMANDS_ADVISED if mixed else 0

    def begin_role(self) -> None:
        """The term or the role has changed: nodes forward again what no entry holds yet."""
        self._queue.clear()
        self._unchecked.clear()
        self._validation = None

    def tick(self) -> None:
        self._queue.load.tick()
        if self._raft.leader_id and not self._raft.leads:
            self._forward(self.pending.take_overdue(self._raft.current_term))

    def propose_pending(self) -> None:
        """Propose at the leader, forward at a follower, as much as flow control allows."""
        raft, pending = self._raft, self.pending
        if raft.leads:
            self._validate_forwards()
            if pending.may_send:
                self._queue.add(
                    raft.node_id, pending.take_unsent(raft.current_term), pending.settled
                )
            if self._may_propose:
                # One entry per round: small proposals do not wait for the large ones behind them.
                submissions, senders = self._queue.take(
                    self._config.entry_bytes_max, raft.log.last_index + 1
                )
                self.propose(submissions, self._run.loop.time())
                for sender in senders:
                    raft.want_commit(sender)
        elif raft.leader_id and pending.may_send:
            self._forward(pending.take_unsent(raft.current_term))

    @property
    def may_continue(self) -> bool:
        """Whether another call of `propose_pending` would propose or forward something now."""
        raft = self._raft
        if raft.leader_id == 0:
            return False
        return self._may_propose or self.pending.may_send

    @property
    def _may_propose(self) -> bool:
        raft = self._raft
        ready = raft.leads and raft.established and not raft.transferee
        return ready and not self._in_dispute() and self._queue.may_propose(raft.last_applied)

    def propose(self, submissions: Sequence[Submission], now_s: float) -> int:
        """Append an entry with these submissions and the cluster time; returns its index."""
        batch = log_pb2.StampedBatch(time_ms=self._clock.stamp_ms(now_s))
        for submission in submissions:
            batch.submissions.add(
                origin=submission.origin,
                number=submission.number,
                commands=submission.commands,
                user=submission.author.user,
                auth_revision=submission.author.auth_revision,
            )
        self._raft.propose([batch.SerializeToString()])
        return self._raft.log.last_index

    # ---- forwarding ------------------------------------------------------------------

    def _forward(self, submissions: Sequence[Submission]) -> None:
        settled, term = self.pending.settled, self._raft.current_term
        # A frame is bounded, and after a change of leader all pending proposals are forwarded.
        for part in in_parts(submissions, self._config.entry_bytes_max):
            forward = Forward(term, settled, tuple(part))
            self._links.send(self._raft.leader_id, Frame(forwards=(forward,)))

    def take_forwards(self, sender: int, forwards: Sequence[Forward]) -> None:
        """Queue forwards of a member for validation, at the leader of their term.

        Others are ignored: the origin repeats them.
        """
        raft = self._raft
        if raft.leads and sender not in raft.peers:
            return  # a leader has the latest membership, and a node forwards for its clients
        self._unchecked.extend(
            (sender, forward)
            for forward in forwards
            if raft.leads and forward.term == raft.current_term
        )

    def take_refusals(self, sender: int, forwards_refused: Sequence[ForwardRefused]) -> None:
        """Fail what the leader refused. Only the leader of a term knows that it has not proposed
        a submission, and only for that term.
        """
        for refused in forwards_refused:
            if sender == self._raft.leader_id and refused.term == self._raft.current_term:
                self.pending.refused(refused.term, refused.number, refused.error)

    def _validate_forwards(self) -> None:
        """Do one step of the validation of forwards."""
        if self._validation is None and self._unchecked:
            self._validation = self._validate(*self._unchecked.popleft())
        if self._validation is not None:
            if next(self._validation, _DONE) is _DONE:
                self._validation = None
            if self._validation is not None or self._unchecked:
                self._run.wake()

    def _validate(self, sender: int, forward: Forward) -> Steps[None]:
        refused: list[ForwardRefused] = []
        good: list[Submission] = []
        for submission in forward.submissions:
            checked = yield from check_forwarded(submission.commands, self._config.limits)
            if not checked.refused:
                good.append(replace(submission, weight=checked.weight))
            for _, error in checked.refused[:1]:
                refused.append(ForwardRefused(forward.term, submission.number, error))
        refused += [
            ForwardRefused(forward.term, number, error)
            for number, error in self._queue.add(sender, good, forward.settled)
        ]
        if refused:
            self._links.send(sender, Frame(forwards_refused=tuple(refused)))
