"""The marks of elections, replication, snapshots, membership, crashes and disks."""

from __future__ import annotations

from collections.abc import Sequence

from jepsen_lite.sim.coverage.mark import Mark

ELECTIONS: Sequence[Mark] = (
    Mark("a message of an older term", "A node handles a message of a term below its own."),
    Mark("a leader is elected", "A candidate has the votes of a majority on disk."),
    Mark("a pre-vote is granted", "A voter would vote for the sender of a pre-vote."),
    Mark("a pre-vote is refused", "A voter's log is ahead, or its term is not below."),
    Mark("a pre-vote is lost", "A majority has refused a pre-candidate, or a leader sent to it."),
    Mark("a late answer to an older pre-vote", "A granted pre-vote of another term is ignored."),
    Mark("a vote is granted", "A voter gives its vote of a term."),
    Mark("a vote is repeated", "A voter repeats the vote that it has given to the same candidate."),
    Mark("a vote is refused: it was given to another", "Two candidates ask for one term's vote."),
    Mark(
        "a vote is refused: the candidate's log is behind",
        "A voter's log ends in a later term, or is longer (section 5.4.1).",
    ),
    Mark(
        "a vote is refused: a leader's lease may rely on it",
        "A voter got a message of a leader within an election timeout (dissertation 6.4.1).",
    ),
    Mark("a vote is granted in a leadership transfer", "Stickiness does not apply to a transfer."),
    Mark(
        "a candidate is ignored beside a living leader",
        "A node that its leader still reaches does not take the higher term (dissertation 4.2.3).",
    ),
    Mark("a candidate follows the leader of its term", "Another candidate has won the term."),
    Mark("an election is lost", "A majority of the voters has refused a candidate."),
    Mark("an election ends without a winner", "A candidate's timeout ends before it has won."),
    Mark(
        "a node that peers report as removed does not stand",
        "A pre-candidate has won, but a peer reports that it was removed.",
    ),
    Mark("a leader is deposed by a higher term", "A leader follows a message of a higher term."),
    Mark(
        "a leader without a majority steps down",
        "The check of the quorum finds no majority that has answered (dissertation 6.2).",
    ),
    Mark(
        "a leader steps down after its own removal",
        "The entry that removes the leader has committed (dissertation 4.2.2).",
    ),
    Mark("a new leader inherits uncommitted entries", "Its log goes beyond its commit index."),
    Mark("a new leader inherits an uncommitted configuration", "The membership is one of these."),
    Mark("a leader is elected in a joint configuration", "It needs majorities of both sets."),
    Mark(
        "an older entry on a majority waits for one of the leader's term",
        "The case of figure 8: the entry is on a majority, and is not committed by counting.",
    ),
    Mark(
        "entries of older terms commit with one of the leader's term",
        "The first commit of a leader covers entries of its predecessors.",
    ),
    Mark("a transfer's target stands at once", "A voter takes a TimeoutNow of its leader."),
    Mark("a TimeoutNow is ignored", "It is late, of another leader, or at a node that may not."),
    Mark("a leadership transfer times out", "The target has not taken over: the leader goes on."),
)

REPLICATION: Sequence[Mark] = (
    Mark("a rejection ends a pipeline", "A follower's rejection sends a leader back to probing."),
    Mark("a rejection is out of date", "A rejection changes nothing at the leader."),
    Mark("a conflict hint skips entries", "A leader goes back by more than one entry at once."),
    Mark("a link breaks under a pipeline", "What was in flight to the peer may be lost."),
    Mark("flow control holds entries back", "A peer has as much in flight as it may have."),
    Mark(
        "an acknowledgement names another history",
        "The running hash of an acknowledgement differs from that of the leader's log.",
    ),
    Mark("entries are rejected: the log is too short", "The entry before them is missing."),
    Mark(
        "entries are rejected: the log has another term there",
        "The entry before them is of another term.",
    ),
    Mark("entries arrive a second time", "The first of them is in the log already."),
    Mark("entries arrive from below the commit index", "A late message: all of it is committed."),
    Mark("entries arrive during an installation", "A node that installs a snapshot ignores them."),
    Mark("a follower cuts entries off", "A leader's entries replace others (figure 2)."),
    Mark("a follower cuts entries off that are on its disk", "The same, after their fsync."),
    Mark(
        "an uncommitted configuration is cut off",
        "A follower goes back to the configuration before (section 6).",
    ),
    Mark("a log is compacted", "A node drops the front of its log."),
    Mark("a log is compacted during a snapshot transfer", "The sender drops entries meanwhile."),
)

SNAPSHOTS: Sequence[Mark] = (
    Mark("a snapshot is sent", "A peer has received and installed a snapshot."),
    Mark("a snapshot waits for another peer's", "A leader sends one snapshot at a time."),
    Mark("a snapshot transfer fails", "The link broke, or the peer refused the snapshot."),
    Mark("a damaged snapshot is not sent", "The sender finds the damage in its own checkpoint."),
    Mark("a snapshot arrives damaged", "The receiver finds the damage before it installs."),
    Mark("a snapshot is offered that is not wanted", "The receiver has committed as much already."),
    Mark(
        "a snapshot is no longer wanted when it has arrived",
        "The receiver has caught up, or the term has ended, during the transfer.",
    ),
    Mark(
        "a snapshot brings nothing new", "A snapshot is stepped that ends below the commit index."
    ),
    Mark("a snapshot ends inside the log", "The log has the snapshot's last entry (figure 13)."),
    Mark("a snapshot is installed", "A snapshot has replaced log and state."),
    Mark("a snapshot replaces uncommitted entries", "The log went beyond the commit index."),
    Mark("a snapshot of a former leader is installed", "The term has ended during the transfer."),
    Mark("a snapshot is installed beside a live watch", "The node has synced watchers meanwhile."),
    Mark("a snapshot is installed beside a wait for a lock", "A client waits at that node."),
    Mark("a pending write survives a snapshot", "Its session makes it safe to propose it again."),
    Mark(
        "a snapshot makes a write's outcome unknown",
        "The write is of no session, and may be among the replaced entries.",
    ),
    Mark("a node crashes while it sends a snapshot", "The receiver has a part of it."),
    Mark("a node crashes while it installs a snapshot", "Log and state may not fit together."),
)

MEMBERSHIP: Sequence[Mark] = (
    Mark("a joint configuration is entered", "A leader appends a configuration of two sets."),
    Mark("a joint configuration is left", "A leader appends the configuration of the new set."),
    Mark("a joint configuration is left by a later leader", "Another leader has entered it."),
    Mark("a leader crashes in a joint configuration", "The next leader has to leave it."),
    Mark("a leader crashes with an uncommitted configuration", "The change may survive or not."),
    Mark("a learner is removed", "A member that does not vote leaves the configuration."),
    Mark("a change of voters is forced", "The operator leaves out the count of majorities."),
    Mark("a change is refused: it would cost the majority", "Too few members acknowledge."),
    Mark("a change is refused: another is under way", "It is not committed, or it is joint."),
    Mark("a change is refused: the leader is new", "It has committed nothing in its term yet."),
    Mark("a change is refused: leadership is being transferred", "Nothing is proposed meanwhile."),
    Mark("a change ends with an unknown outcome", "It was proposed, and not seen committed."),
    Mark("the cluster version is raised", "A leader proposes the next version."),
    Mark("a node learns of its removal from its log", "It has applied its removal."),
    Mark("a node learns of its removal from its peers", "All that answer say so for a while."),
    Mark("an admitted peer is refused later", "It was removed, or its clone started later."),
    Mark("a node leaves service", "It finds that it must not take part, and records that."),
)

STORAGE: Sequence[Mark] = (
    Mark("a leader crashes with uncommitted entries", "Its log goes beyond its commit index."),
    Mark(
        "a node crashes before it has applied what is committed",
        "Its applied index is behind its commit index.",
    ),
    Mark("a paused leader goes on beside a later one", "It has not seen the higher term yet."),
    Mark("a leader goes on", "A leader was paused, and no other was elected."),
    Mark("a crash comes during a write to the log", "The log has writes that are not synced."),
    Mark("a crash loses a write to the log", "Nothing of it is there after the restart."),
    Mark("a crash tears a write to the log", "The log ends with a part of it."),
    Mark("a crash loses part of the applied state", "The state falls back behind the log."),
    Mark("a sync is slow", "The disk takes longer, because of a fault."),
    Mark("a write finds the disk full", "The node can't go on."),
    Mark("a node starts again", "A node starts from a disk that it has started from before."),
    Mark("a node starts again with entries to apply", "Its log goes beyond its applied state."),
    Mark("a node starts again with its vote of the term", "The vote on disk still binds it."),
    Mark("a node starts again with a compacted log", "The front of its log is in its state only."),
    Mark("a node starts again in a joint configuration", "The last one in its log is joint."),
    Mark("a node refuses its damaged disk at its start", "Log or state do not verify."),
    Mark(
        "a crash during an installation leaves a new state and an old log",
        "Recovery resets the log to the state.",
    ),
    Mark("a node withdraws from damaged data", "It finds damage while it runs."),
    Mark("a node with a wrong state is quarantined", "Its state differs from a majority's."),
    Mark("two states differ, and no majority agrees on either", "Nothing is proposed meanwhile."),
    Mark(
        "a member that lagged ends a dispute about the state",
        "Its marks have made a majority, or one of the others was removed.",
    ),
)
