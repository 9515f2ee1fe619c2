"""A process that applies committed logs: `python -m jepsen_lite.sim.replicas.process [MUTANT]`,
where a mutant is MODULE:NAME.

It reads logs from its standard input and writes the digests, or the error, to its standard output,
each pickled. It runs with every Python and library that raftkv supports, so it imports little.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from contextlib import ExitStack
from importlib import import_module

from jepsen_lite.sim.replicas.applied_log import apply_log
from raftkv.raft.entry import Entry, EntryKind

READY = "ready"


def main() -> None:
    """Serve until the input ends."""
    received, sent = sys.stdin.buffer, sys.stdout.buffer
    with ExitStack() as planted:
        for name in sys.argv[1:]:
            module, _, attribute = name.partition(":")
            planted.enter_context(getattr(import_module(module), attribute).planted())
        pickle.dump(READY, sent, protocol=4)
        sent.flush()
        while True:
            try:
                runs, packed = pickle.load(received)
            except EOFError:
                return
            pickle.dump(_answer(packed, runs), sent, protocol=4)
            sent.flush()


def _answer(packed: list[tuple[int, int, int, bytes]], runs: str) -> object:
    entries = [
        Entry(term, index, EntryKind(kind), payload) for term, index, kind, payload in packed
    ]
    try:
        return [tuple(each) for each in apply_log(entries, runs)]
    except Exception:  # noqa: BLE001 - an error that other replicas do not have is a difference
        return traceback.format_exc()


if __name__ == "__main__":
    main()
