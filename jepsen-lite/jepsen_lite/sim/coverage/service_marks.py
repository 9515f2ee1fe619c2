"""The marks of reads, commands, leases, locks, watches, clients and admission."""

from __future__ import annotations

from collections.abc import Sequence

from jepsen_lite.sim.coverage.mark import Mark

READS: Sequence[Mark] = (
    Mark(
        "a read index waits for the first commit of the term",
        "A new leader does not know yet how far its predecessors got (section 8).",
    ),
    Mark("a read index is answered to a follower", "A follower serves a linearizable read."),
    Mark("a read index is asked for again", "An answer is late, and a tick repeats the request."),
    Mark("a read finds no leader to ask", "The node knows no leader: a tick asks again."),
    Mark("a read fails without a leader", "No leader was found for two election timeouts."),
    Mark("a read is not confirmed in time", "The deadline of a read barrier has passed."),
    Mark("a confirmed read waits for the apply", "Its index is above the applied index."),
    Mark("a read trusts the leader's lease", "No round of heartbeats was needed."),
    Mark("a leader's lease is over, and a read takes a round", "Nothing has renewed the lease."),
    Mark(
        "a leader gives its lease up for a transfer",
        "A TimeoutNow may arrive late, so no lease is trusted in this leadership.",
    ),
    Mark("a session read waits for its revision", "The client has seen more than the node has."),
    Mark("a bounded read waits for a newer state", "The node's state is older than the bound."),
    Mark("a bounded read is refused as too stale", "No newer state was confirmed in time."),
    Mark(
        "an answer is too old for its bound, and the read goes on",
        "The reading itself has taken so long that the bound is exceeded.",
    ),
    Mark("a scan takes several steps", "A read gives way to other work in between."),
    Mark("entries are applied between two steps of a scan", "The scan sees the state before."),
    Mark("a scan starts again after a snapshot", "A snapshot has replaced the store under it."),
    Mark("the leader compacts history: its age", "No client has asked for this compaction."),
    Mark("the leader compacts history: its size", "It is more than the bound of bytes."),
    Mark(
        "a compaction waits for what a member needs",
        "A read or a watch uses an older revision, or a member has not reported.",
    ),
    Mark("a compaction removes versions", "Old versions are removed after a compaction."),
    Mark("a compaction takes several entries", "One entry removes a bounded number of rows."),
    Mark(
        "a compaction removes versions beside a running scan",
        "A scan of the same state is between two steps.",
    ),
)

COMMANDS: Sequence[Mark] = (
    Mark("a retry is answered from memory", "The session returns the first result of a batch."),
    Mark(
        "a retry arrives after its result was acknowledged",
        "The result is forgotten, and the batch is not run again.",
    ),
    Mark("a session has no room for a result", "A bound of the remembered results is reached."),
    Mark("a transaction runs its success branch", "All comparisons hold."),
    Mark("a transaction runs its failure branch", "A comparison does not hold."),
    Mark("a comparison swaps", "A compare_and_swap finds what it expects."),
    Mark("a comparison does not swap", "A compare_and_swap finds something else."),
    Mark("a range of keys is deleted", "A delete_range names more than one key."),
    Mark("a range deletion reaches its limit", "Keys of the range are left."),
    Mark("a key is attached to a lease", "A put names a lease."),
    Mark("an acquire finds the lock free", "The caller holds the lock at once."),
    Mark("an acquire joins the queue", "The caller waits behind the holder."),
    Mark("an acquire does not join: the lock is held", "It joins only if the lock is free."),
    Mark("an idempotency key is used", "A command runs under a key that is not known."),
    Mark("an idempotency key is repeated", "The first result under the key is returned."),
    Mark("an idempotency key expires", "Its rows are removed after its deadline."),
    Mark("a node refuses a write: too many are pending", "A bound on pending writes is reached."),
    Mark("a write is proposed again under a later leader", "The older leader's copy is dead."),
    Mark("a forwarded write is sent again", "The leader has not committed it for some time."),
    Mark("a leader drops a write that it has already", "A copy of a forwarded write arrives."),
    Mark("a leader refuses a forwarded write", "It is over a bound, or not valid."),
    Mark("a leader has no room for a node's writes", "The bound for one node is reached."),
    Mark("a write is never taken by a leader", "Its deadline passes: it is certainly not applied."),
    Mark("a write is not applied in time", "Its deadline passes: its outcome is unknown."),
    Mark("a node stops with pending writes", "Their clients get an error at once."),
)

COORDINATION: Sequence[Mark] = (
    Mark("a lease expires", "Upkeep ends a lease whose deadline has passed."),
    Mark("an expired lease takes its keys along", "Keys are deleted with an expired lease."),
    Mark("a lease is revoked", "A client ends a living lease."),
    Mark("a revoked lease takes its keys along", "Keys are deleted with a revoked lease."),
    Mark("the end of a lease takes several entries", "One entry deletes a bounded number of keys."),
    Mark("a lease is renewed in the last quarter of its time", "The renewal comes just in time."),
    Mark(
        "a lease is renewed after its end, before its removal",
        "The lease is over by cluster time, although its rows are still there.",
    ),
    Mark(
        "a lease is renewed with a late answer",
        "The answer takes a tenth of the lease's time or more: counted from the answer, the"
        " client's trust would outlast the lease.",
    ),
    Mark("a renewal fails", "A renewal of kept leases ends with an error."),
    Mark("a renewal finds that the store has ended the lease", "Its owner learns of the loss."),
    Mark(
        "a lease is no longer trusted, for lack of a renewal",
        "The client's own clock ends the trust before the store ends the lease.",
    ),
    Mark("a session's renewal finds that it has ended", "The client opens another session."),
    Mark("an entry without commands carries a time stamp", "A leader stamps the log for leases."),
    Mark(
        "a time stamp is behind cluster time",
        "A new leader's stamp is below the last one applied, and is raised to that.",
    ),
    Mark("a queue's cached head is wrong and rebuilt", "The remembered head of a queue is gone."),
    Mark(
        "a queue's cached head is gone, and the queue is empty",
        "The remembered head of a queue is gone, and there is no other entry.",
    ),
    Mark(
        "a queue's cached length is forgotten",
        "A transaction has changed a key of the queue past the cache.",
    ),
    Mark("a fence holds", "A command's token is the present holder's."),
    Mark("a fence is refused: another token holds the lock", "The token's entry is gone."),
    Mark("a fence is refused: nobody holds the lock", "The queue is empty."),
    Mark(
        "a fence is refused: its token waits or its lease is over",
        "The token has an entry in the queue, and does not hold the lock.",
    ),
)

RIGHTS: Sequence[Mark] = (
    Mark("authentication is enabled", "From then on, callers have users and rights."),
    Mark("authentication is disabled", "From then on, everybody may do everything."),
    Mark(
        "a command is checked again at apply",
        "Users or roles have changed since its node checked it.",
    ),
    Mark(
        "a command is refused at apply: rights have changed since its submission",
        "Its user had the right when its node checked it.",
    ),
    Mark(
        "the result of a session is withheld",
        "A batch is sent again by a user who has lost the rights for it.",
    ),
    Mark(
        "the result under an idempotency key is withheld",
        "A command is sent again by a user who has lost the rights for it.",
    ),
    Mark("a session of another user is refused", "A batch names the session of another user."),
    Mark("a lease of another user is refused", "A command names the lease of another user."),
    Mark(
        "a missing right is confirmed by a read barrier",
        "A node that lags must not refuse what was granted before.",
    ),
    Mark(
        "a node that lags finds a right after a read barrier",
        "What it had applied before did not have the grant.",
    ),
    Mark("a watch ends: its range may not be read", "The right was withdrawn, or never granted."),
    Mark("a stream goes on with a newer token", "The client has renewed its token."),
    Mark("a node refuses a client's token", "Its key is not valid any more, or it has expired."),
    Mark("a signing key is replaced", "The one before it verifies for another while."),
)

WATCHES: Sequence[Mark] = (
    Mark("a watch starts at the next revision", "It is synced at once."),
    Mark("a watch starts in the past", "It reads history until it is synced."),
    Mark("a watch starts ahead", "Its first revision does not exist yet at this node."),
    Mark("a watch joins within a run", "A run of entries has changed keys, and is not complete."),
    Mark("a wait for a lock joins within a run", "The release may be in what was done of it."),
    Mark("a watch catches up", "A watcher has read all history and is synced."),
    Mark("a watch's buffer overflows", "A synced watcher's stream is full: it reads history."),
    Mark("a watch falls behind a large change", "Many changes at once are read from history."),
    Mark("a watch ends: its history is compacted", "It has not received what was compacted."),
    Mark("a watch is cancelled", "The client ends a watch."),
    Mark("a watch is not confirmed by a majority", "A read barrier of a watch stream fails."),
    Mark("a node has no room for a watch", "A bound on watches is reached."),
    Mark("a stopping node ends a watch", "Clients go on at another node."),
    Mark("a stopping node ends a wait for a lock", "Clients wait at another node."),
    Mark("a node crashes beside a live watch", "It has watchers when its process ends."),
    Mark("a live watch moves to another node", "It goes on there from its last revision."),
    Mark("a watch pauses: its consumer is slow", "The client's buffer of events is full."),
)

CLIENTS: Sequence[Mark] = (
    Mark(
        "a client sends a batch again whose outcome is unknown",
        "The same bytes go out under the same session and sequence.",
    ),
    Mark("a client sends calls again that were not run", "They leave in a new batch."),
    Mark(
        "a session ends under a batch whose outcome is unknown",
        "The caller gets OutcomeUnknown.",
    ),
    Mark("a session ends under a batch that was not run", "The calls go out in a new session."),
    Mark("a client's breaker opens", "Several attempts at one node have failed in a row."),
    Mark("a client probes a node behind an open breaker", "One attempt decides."),
    Mark("a client's retry waits for its budget", "Retries are bounded by a share of requests."),
    Mark("a client moves to the leader", "New batches go to the leader that it has found."),
    Mark("a client leaves a silent node", "A node owes an answer and sends nothing."),
    Mark("a client's stream breaks with batches in flight", "Their outcome is unknown."),
    Mark("a stopping node refuses a request", "Admission is closed."),
    Mark("a node refuses a request above a bound", "Requests or bytes in flight are at a bound."),
)
