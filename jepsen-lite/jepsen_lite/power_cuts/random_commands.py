"""Random commands for a state machine, as the payloads of log entries."""

from __future__ import annotations

from random import Random

from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2

_KEYS = 40
_LEASES = 5


class RandomCommands:
    """Payloads that put, delete, compare, compact, lock, and grant, renew and revoke leases."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._time_ms = 0
        self._sequence = 0
        self._number = 0

    def payload(self, value_bytes: int | None = None) -> bytes:
        """A stamped batch of a few commands; with `value_bytes` one put of a value so long."""
        rng = self._rng
        self._time_ms += rng.choice((0, 10, 400))
        self._number += 1
        batch = pb.CommandBatch()
        if value_bytes is not None:
            batch.commands.append(pb.Command(put=self._put(value_bytes)))
        else:
            batch.commands.extend(self._command() for _ in range(rng.choice((1, 1, 3))))
            if rng.random() < 0.3:
                # Its lease may have ended, or never have begun: then the batch is refused.
                self._sequence += 1
                batch.session, batch.sequence = rng.randint(1, _LEASES), self._sequence
                batch.acknowledged = max(0, self._sequence - 10)
        stamped = log_pb2.StampedBatch(time_ms=self._time_ms)
        stamped.submissions.add(
            origin=1, number=self._number, commands=batch.SerializeToString(deterministic=True)
        )
        return stamped.SerializeToString(deterministic=True)

    def _key(self) -> bytes:
        return b"key-%02d" % self._rng.randrange(_KEYS)

    def _put(self, value_bytes: int | None = None) -> pb.Put:
        size = self._rng.choice((5, 200, 3_000)) if value_bytes is None else value_bytes
        return pb.Put(key=self._key(), value=self._rng.randbytes(size))

    def _command(self) -> pb.Command:
        rng = self._rng
        lease = rng.randint(1, _LEASES)
        drawn = rng.random()
        if drawn < 0.5:
            return pb.Command(put=self._put())
        if drawn < 0.6:
            return pb.Command(put=pb.Put(key=self._key(), value=b"leased", lease=lease))
        if drawn < 0.7:
            first = self._key()
            end = first[:-1] + b":"  # after the digits
            return pb.Command(delete_range=pb.DeleteRange(key=first, range_end=end))
        if drawn < 0.75:
            return pb.Command(compact=pb.Compact(revision=rng.randint(1, self._number + 1)))
        if drawn < 0.85:
            return pb.Command(
                lease_grant=pb.LeaseGrant(lease=lease, ttl_ms=rng.choice((1_000, 9_000)))
            )
        if drawn < 0.9:
            return pb.Command(lease_revoke=pb.LeaseRevoke(lease=lease))
        if drawn < 0.95:
            return pb.Command(acquire=pb.Acquire(name=b"lock", lease=lease, value=b"holder"))
        return pb.Command(
            put=self._put(),
            idempotency_key=self._key(),
            idempotency_ttl_ms=rng.choice((100, 5_000)),
        )
