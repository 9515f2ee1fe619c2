"""Every promise of raftkv with a clock in it: which moment it counts from, which one it must not
count from, and the tests that move time between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

CLIENT = "tests/clock_promises/test_client_promises.py"
NODE = "tests/clock_promises/test_node_promises.py"
STORE = "tests/clock_promises/test_store_promises.py"


@dataclass(frozen=True, slots=True)
class ClockPromise:
    """`counts_from` is the moment that the promise is about, `not_from` the one it is mistaken for.

    `tests` are names of test functions by file.
    """

    promise: str
    counts_from: str
    not_from: str
    tests: tuple[tuple[str, str], ...]


PROMISES = (
    ClockPromise(
        "a kept lease is trusted for 0.9 of its TTL",
        "the sending of the grant or renewal that was acknowledged",
        "the arrival of its answer",
        (
            (CLIENT, "test_a_renewal_is_trusted_from_its_sending"),
            (
                "tests/client/test_kept_leases.py",
                "test_trust_counts_from_the_sending_of_the_renewal_that_was_acknowledged",
            ),
        ),
    ),
    ClockPromise(
        "lock.remaining() is for how long a lock can be trusted",
        "the sending of the acquisition or renewal",
        "the arrival of its answer",
        ((CLIENT, "test_a_lock_is_trusted_from_the_sending_of_its_acquisition"),),
    ),
    ClockPromise(
        "a holder that wakes from a pause trusts nothing that ended meanwhile",
        "the clock at the moment of the check",
        "the timer of the loss, which a paused process runs late",
        ((CLIENT, "test_a_holder_that_was_paused_trusts_nothing_before_its_timers_have_run"),),
    ),
    ClockPromise(
        "a call ends at its timeout",
        "the call",
        "the sending of its batch, which waits in an outage",
        (
            (CLIENT, "test_a_timeout_counts_from_the_call_and_not_from_its_sending"),
            (
                "tests/client/test_retries.py",
                "test_the_remaining_time_is_sent_with_the_request",
            ),
        ),
    ),
    ClockPromise(
        "a leader reads on its lease while no other node can lead",
        "the sending of the heartbeats that a majority answered",
        "the arrival of the answers",
        (
            (NODE, "test_a_leader_lease_counts_from_the_sending_of_its_heartbeats"),
            (
                "tests/node/test_lease_reads.py",
                "test_a_leader_that_wakes_from_a_pause_reads_nothing_old",
            ),
        ),
    ),
    ClockPromise(
        "a bounded read is no older than its bound",
        "the sending of the request for the read index, and the state that was read",
        "the arrival of the read index, and the state at the end of a long read",
        (
            (NODE, "test_a_state_is_as_old_as_the_request_that_confirmed_it"),
            (NODE, "test_a_long_read_is_as_old_as_the_state_that_it_began_with"),
            (
                "tests/node/test_read_barriers.py",
                "test_a_repeated_read_index_request_keeps_its_first_time",
            ),
        ),
    ),
    ClockPromise(
        "a lease lives for its TTL from its last renewal",
        "the cluster time of the entry that grants or renews it",
        "the cluster time that was applied before it, and any node's clock",
        (
            (STORE, "test_a_lease_counts_from_the_stamp_of_its_own_entry"),
            (
                "tests/kv/test_leases.py",
                "test_a_lease_expires_with_the_first_entry_stamped_at_or_past_its_deadline",
            ),
            (
                "tests/node/test_lease_lifetimes.py",
                "test_a_lease_does_not_begin_anew_with_each_leader",
            ),
        ),
    ),
    ClockPromise(
        "a session ends with its lease",
        "the cluster time of the entry in which the retry stands",
        "the cluster time of the last entry before it",
        (
            (STORE, "test_a_retry_is_judged_by_the_stamp_of_its_own_entry"),
            (
                "tests/kv/test_sessions.py",
                "test_an_expired_session_is_refused_even_for_what_it_had_run",
            ),
        ),
    ),
    ClockPromise(
        "an idempotency key is known for its TTL",
        "the cluster time of the entry that ran the command first",
        "a retry, and the cluster time that was applied before it",
        (
            (STORE, "test_an_idempotency_key_counts_from_the_stamp_of_its_own_entry"),
            (
                "tests/kv/test_idempotency.py",
                "test_another_ttl_is_not_another_command_and_does_not_lengthen_the_first",
            ),
        ),
    ),
    ClockPromise(
        "cluster time never runs back, and stands still without a leader",
        "the last stamp in the log, at the rate of the leader's own clock",
        "the reading of any clock",
        (
            (
                "tests/node/test_cluster_clock.py",
                "test_cluster_time_goes_on_from_the_log_and_stands_still_in_an_outage",
            ),
        ),
    ),
)
