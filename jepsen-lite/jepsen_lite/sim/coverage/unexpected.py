"""The marks that the default run need not reach, each with its reason.

A mark is here while fewer than 8 of 100 default runs reach it. It leaves this list once more than
that do: then a default run of 100 seeds fails without it.
"""

from __future__ import annotations

from collections.abc import Mapping

OF_ELECTIONS: Mapping[str, str] = {
    "a vote is repeated": (
        "the answer must be lost and the same candidacy repeated within one timeout"
    ),
    "an election is lost": (
        "as pre-votes filter candidates, a log must overtake a candidate's in between"
    ),
    "a leader is elected in a joint configuration": (
        "the leader must go in the milliseconds between the two steps of a change"
    ),
    "a late answer to an older pre-vote": "an answer must be overtaken by a whole election",
    "a vote is refused: a leader's lease may rely on it": (
        "a candidate's request without a pre-vote must meet a follower of a living leader"
    ),
    "a node that peers report as removed does not stand": (
        "a removed node must win a pre-vote before its peers' reports"
    ),
}
OF_REPLICATION: Mapping[str, str] = {
    "an acknowledgement names another history": (
        "only a node with another disk that is admitted all the same could send it"
    ),
    "an uncommitted configuration is cut off": (
        "a leader must go with a configuration that no other node has"
    ),
    "a snapshot waits for another peer's": "two peers must need a snapshot within one transfer",
    "a damaged snapshot is not sent": (
        "a flipped bit of the leader's state must be older than the transfer, and not met before"
    ),
    "a snapshot arrives damaged": (
        "one scenario and few plain runs damage a snapshot, and one must be sent after that"
    ),
    "a snapshot is offered that is not wanted": (
        "the receiver must catch up between the leader's decision and its offer"
    ),
    "a snapshot is no longer wanted when it has arrived": (
        "the receiver must catch up, or the term end, within one transfer"
    ),
    "a snapshot brings nothing new": (
        "the receiver must commit as much between the arrival and the step"
    ),
    "a snapshot ends inside the log": (
        "the receiver must get the same entries from another leader during the transfer"
    ),
    "a snapshot is installed beside a wait for a lock": "its scenario is one card of the deck",
    "a node crashes while it installs a snapshot": "a crash must meet a short installation",
    "replication: snapshot while the peer crashes": "a crash must meet a short transfer",
    "replication: probe while the peer installs a snapshot": (
        "a former leader's snapshot must meet a new leader's first probe"
    ),
    "replication: replicate while the peer installs a snapshot": (
        "a former leader's snapshot must meet a new leader's pipeline"
    ),
}
OF_MEMBERSHIP: Mapping[str, str] = {
    "a change is refused: leadership is being transferred": (
        "one seed in four asks for it, and the leader must not be the node that is cut off"
    ),
    "a joint configuration is left by a later leader": (
        "the leader must go in the milliseconds between the two steps of a change"
    ),
    "a leader crashes in a joint configuration": (
        "the leader must crash in the milliseconds between the two steps of a change"
    ),
    "a change of voters is forced": (
        "the operator forces a removal only while a voter is down and no disk is damaged"
    ),
    "a change is refused: another is under way": "two requests must meet, as there is one operator",
    "a change is refused: the leader is new": (
        "a request must meet the round trip after an election"
    ),
    "a node learns of its removal from its peers": (
        "a removed node must be cut off until all peers have compacted or forgotten it"
    ),
    "peer refused: CLONE": (
        "a copied disk must start as often as the original, which one scenario can bring about"
    ),
}
OF_STORAGE: Mapping[str, str] = {
    "a crash tears a write to the log": "power must fail within a sync of more than one record",
    "a write finds the disk full": (
        "one kind of fault of the plain run, and the node must write meanwhile"
    ),
    "a node starts again in a joint configuration": (
        "a voter must crash in the milliseconds between the two steps of a change"
    ),
    "a node refuses its damaged disk at its start": (
        "one scenario flips bits of the log, and recovery must meet them"
    ),
    "a node withdraws from damaged data": (
        "one scenario flips bits of the state, and a read or the scrub must meet them"
    ),
    "a node with a wrong state is quarantined": (
        "one scenario flips bits in memory, where clients may read what is wrong before it is found"
    ),
    "two states differ, and no majority agrees on either": (
        "one scenario flips bits in memory, and the third node must be down or slow"
    ),
    "a member that lagged ends a dispute about the state": (
        "one scenario flips bits in memory, and the third node must be back in time"
    ),
    "a crash during an installation leaves a new state and an old log": (
        "a crash must come between two syncs of an installation"
    ),
    "crash: kill of a pre-candidate": "a kill must come within one round trip",
    "crash: kill of a candidate": "a kill must come within one round trip",
    "crash: power cut of a candidate": "a power cut must come within one round trip",
}
OF_READS: Mapping[str, str] = {
    "batch refused: TOO_STALE": (
        "it needs steady clocks, the workload staleness and a follower that is cut off"
    ),
    "a leader gives its lease up for a transfer": (
        "a read of the leader must come within a transfer, with leader leases on"
    ),
    "an answer is too old for its bound, and the read goes on": (
        "a scan must take as long as the bound, 0.2 s; scans of a run take milliseconds"
    ),
    "a scan starts again after a snapshot": "an installation must end between two steps of a scan",
    "a compaction removes versions beside a running scan": (
        "a compaction must come between two steps of a scan"
    ),
}
OF_COMMANDS: Mapping[str, str] = {
    "the result of a session is withheld": (
        "a batch must be sent again after the loss of the right, and before its acknowledgement"
    ),
    "the result under an idempotency key is withheld": (
        "a user must send the same put again within the moment after the loss of the right"
    ),
    "a node that lags finds a right after a read barrier": (
        "a user must ask a node that lags, within the moment after a grant"
    ),
    "a node refuses a client's token": (
        "clients renew tokens in time, unless they reach no node for two seconds"
    ),
    "command refused: UNAUTHENTICATED": "no user is deleted while it has requests under way",
    "command refused: USER_NOT_FOUND": "no user is deleted",
    "command refused: USER_EXISTS": "an administrator must repeat a request that was carried out",
    "command refused: ROLE_NOT_FOUND": "an administrator must repeat a withdrawal",
    "command refused: ROLE_EXISTS": "an administrator must repeat a request that was carried out",
    "command refused: TOKEN_NOT_FOUND": "no client uses service tokens",
    "a session has no room for a result": "16,384 results must wait for their acknowledgement",
    "a node refuses a write: too many are pending": (
        "admission has the same bound, and refuses first"
    ),
    "a leader refuses a forwarded write": (
        "the bounds of a leader are far above what a run has on its way"
    ),
    "a leader has no room for a node's writes": (
        "writes of one node for several entries of full size must be on their way"
    ),
    "the end of a lease takes several entries": (
        "more than 10,000 keys must be on leases that end at once"
    ),
    "a lease is renewed after its end, before its removal": (
        "a renewal must be applied between the end by cluster time and the next upkeep"
    ),
    "a time stamp is behind cluster time": (
        "a new leader must be slower than the last one, and stamp within the difference"
    ),
    "command: compact, retry": (
        "few operations of one workload are compactions, and an answer must be lost"
    ),
    "command: compact, after expiry": (
        "few operations of one workload are compactions, and its session must end"
    ),
    "command: acquire, after expiry": "a session must end under an acquire",
    "command: put, after expiry": (
        "a client must be cut off for longer than its session lives, and send again"
    ),
    "command: delete_range, after expiry": "a session must end under a deletion",
    "command: transaction, after expiry": "a session must end under a transaction",
    "command: compare_and_swap, after expiry": "a session must end under a compare_and_swap",
    "command: lease_grant, retry": "clients grant few leases, and an answer must be lost",
    "command: lease_grant, after expiry": (
        "clients grant few leases, and a session must end under one"
    ),
    "command: lease_renew, retry": (
        "two workloads renew leases one by one, and an answer must be lost"
    ),
    "command: lease_renew, after expiry": (
        "two workloads renew leases one by one, and a session must end under it"
    ),
    "command: lease_revoke, retry": "clients revoke few leases, and an answer must be lost",
    "command: lease_revoke, after expiry": (
        "clients revoke few leases, and a session must end under one"
    ),
    "command refused: INVALID_REQUEST": (
        "nodes check requests before; only clusters of version 0 refuse pages and limits at apply"
    ),
}
OF_CLIENTS: Mapping[str, str] = {
    "a watch joins within a run": "a watch must start between two steps of apply",
    "a wait for a lock joins within a run": "a wait must start between two steps of apply",
    "a watch's buffer overflows": "it needs the tiny buffer, and a client that is slow to read",
    "a stopping node ends a watch": "an orderly stop must meet a live watch",
    "a stopping node ends a wait for a lock": "an orderly stop must meet a wait for a lock",
    "a watch pauses: its consumer is slow": (
        "it needs the tiny buffer of the client, and more events at once"
    ),
    "a session ends under a batch whose outcome is unknown": (
        "a session must end between a batch and its repetition"
    ),
    "a session ends under a batch that was not run": (
        "a session must end before its client is connected again"
    ),
    "a client's retry waits for its budget": (
        "hundreds of retries must be due at once, more than a run has operations under way"
    ),
    "a stopping node refuses a request": "a request must meet the drain of an orderly stop",
    "batch refused: SHUTTING_DOWN": "a batch must meet the drain of an orderly stop",
    "batch refused: SESSION_EXPIRED": "a client must be cut off for longer than its session lives",
}
OF_MESSAGES: Mapping[str, str] = {
    "message: RequestVoteReply at a pre-candidate": (
        "a vote must be later than the candidacy that asked for it"
    ),
    "message: AppendEntries at a candidate": (
        "a leader of the term or before must be heard within one round trip"
    ),
    "message: AppendEntriesReply at a pre-candidate": (
        "a deposed leader must stand again before an answer to its entries"
    ),
    "message: AppendEntriesReply at a candidate": (
        "a deposed leader must stand again before an answer to its entries"
    ),
    "message: HeartbeatReply at a pre-candidate": (
        "a deposed leader must stand again before an answer to its heartbeat"
    ),
    "message: HeartbeatReply at a candidate": (
        "a deposed leader must stand again before an answer to its heartbeat"
    ),
    "message: InstallSnapshot at a pre-candidate": (
        "a transfer must end within the candidacy of its receiver"
    ),
    "message: InstallSnapshot at a candidate": (
        "a transfer must end within the candidacy of its receiver"
    ),
    "message: InstallSnapshot at a leader": (
        "the receiver must be elected during the transfer to it"
    ),
    "message: ReadIndex at a pre-candidate": (
        "a follower must ask a leader that has stood down and stands again"
    ),
    "message: ReadIndex at a candidate": (
        "a follower must ask a leader that has stood down and stands again"
    ),
    "message: ReadIndexReply at a leader": (
        "a node must be elected while its question is on its way"
    ),
    "message: ReadIndexReply at a pre-candidate": (
        "a node must stand while its question is on its way"
    ),
    "message: ReadIndexReply at a candidate": "a node must stand while its question is on its way",
    "message: TimeoutNow at a pre-candidate": "a transfer must meet the target's own timeout",
    "message: TimeoutNow at a candidate": (
        "a transfer must meet the target's own timeout, or its first request must be lost"
    ),
    "message: TimeoutNow at a leader": "the message must be slower than an election of its target",
}

UNEXPECTED: Mapping[str, str] = {
    **OF_ELECTIONS,
    **OF_REPLICATION,
    **OF_MEMBERSHIP,
    **OF_STORAGE,
    **OF_READS,
    **OF_COMMANDS,
    **OF_CLIENTS,
    **OF_MESSAGES,
}
"""The reason of each mark."""
