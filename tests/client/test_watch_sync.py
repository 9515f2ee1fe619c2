"""The synchronous twin of a watch: its bookmark moves on the loop, and is read there."""

from __future__ import annotations

import threading
from typing import cast

from raftkv.client.sync.portal import shared_portal
from raftkv.client.sync.watch import SyncWatch
from raftkv.client.watch.watch import Watch


class Bookmarked:
    """A watch that notes which threads have read its bookmark."""

    def __init__(self) -> None:
        self.readers: list[threading.Thread] = []

    @property
    def revision(self) -> int:
        self.readers.append(threading.current_thread())
        return 7


def test_the_bookmark_is_read_only_on_the_loop_that_moves_it() -> None:
    async def loops_thread() -> threading.Thread:
        return threading.current_thread()

    watch = Bookmarked()
    assert SyncWatch(cast(Watch, watch)).revision == 7
    assert watch.readers == [shared_portal().call(loops_thread)]
