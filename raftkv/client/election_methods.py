"""Elections."""

from __future__ import annotations

from raftkv.arguments import milliseconds
from raftkv.client.elections import Election
from raftkv.client.kv_methods import KvMethods
from raftkv.client.values import to_key
from raftkv.client.watch_methods import WatchMethods


class ElectionMethods(KvMethods, WatchMethods):
    """Leaders, one at a time."""

    def election(self, name: str | bytes, *, ttl: float = 10.0) -> Election:
        """The election for `name`; if its leader dies, the next one leads after `ttl` seconds.

            async with await client.election("scheduler").campaign("host-7") as leadership:
                ...

        Elections and locks are the same queues: do not use one name for both.
        """
        return Election(
            self._queues,
            self,
            self._settings,
            to_key(name, self._settings, "name"),
            milliseconds(ttl, "ttl"),
        )
