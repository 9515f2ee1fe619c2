"""Carries out a schedule of faults on a real cluster, records each, and reverts everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jepsen_lite.db.base import Database, DatabaseFailed, NoEffect
from jepsen_lite.faults.kinds import Fault
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.nemesis.base import ActiveFault, Nemesis, nothing_to_undo
from jepsen_lite.nemesis.schedule import ScheduledFault

RECOVERY_S = 60.0
POLL_S = 0.2


class FaultInjector:
    """`problems` has what could not be reverted. `on_record` is called when a fault is over."""

    def __init__(
        self,
        db: Database,
        nemeses: Sequence[Nemesis],
        now_ns: Callable[[], int],
        on_record: Callable[[FaultRecord], None],
    ) -> None:
        self.problems: list[str] = []
        self._db = db
        self._nemeses = {nemesis.name: nemesis for nemesis in nemeses}
        self._now_ns = now_ns
        self._on_record = on_record
        # Two faults of one kind never overlap, however long an undo takes: so at most one of
        # three disks is damaged.
        self._active: set[str] = set()

    async def carry_out(self, schedule: Sequence[ScheduledFault]) -> None:
        """Return when every fault is over."""
        start_ns = self._now_ns()
        async with asyncio.TaskGroup() as group:
            for each in schedule:
                group.create_task(self._run(each.nemesis, each.fault, start_ns))

    async def _run(self, name: str, fault: Fault, start_ns: int) -> None:
        await asyncio.sleep(fault.at_s - (self._now_ns() - start_ns) / 1e9)
        began_ns = self._now_ns()
        if name in self._active:
            detail = "the previous fault of this kind is not over"
            self._record(name, _NOT_BEGUN, began_ns, detail, took_effect=False)
            return
        self._active.add(name)
        try:
            await self._inject_and_undo(name, fault, began_ns)
        finally:
            self._active.remove(name)

    async def _inject_and_undo(self, name: str, fault: Fault, began_ns: int) -> None:
        try:
            active = await self._nemeses[name].inject(self._db, fault)
        except NoEffect as reason:
            self._record(name, _NOT_BEGUN, began_ns, str(reason), took_effect=False)
            return
        except Exception as error:  # noqa: BLE001 - one fault that fails must not end the others
            self._failed(name, _NOT_BEGUN, began_ns, error)
            return
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            await self._undo(name, active, began_ns)

    async def _undo(self, name: str, active: ActiveFault, began_ns: int) -> None:
        try:
            more = await active.undo()
        except NoEffect as reason:
            detail = f"{active.detail}; {reason}"
            self._record(name, active, began_ns, detail, took_effect=False)
        except Exception as error:  # noqa: BLE001 - it becomes a problem of the run
            self._failed(name, active, began_ns, error)
        else:
            detail = f"{active.detail}; {more}" if more else active.detail
            self._record(name, active, began_ns, detail, took_effect=True)

    def _failed(self, name: str, active: ActiveFault, began_ns: int, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        self.problems.append(f"the fault {name} could not be injected or reverted: {text}")
        self._record(name, active, began_ns, text, took_effect=False)

    def _record(
        self, name: str, active: ActiveFault, began_ns: int, detail: str, *, took_effect: bool
    ) -> None:
        self._on_record(
            FaultRecord(name, active.target, began_ns, self._now_ns(), detail, took_effect)
        )

    async def recover(self) -> None:
        """Start every node and wait until it serves; a node that does not is a problem."""
        for machine in list(self._db.machines.values()):
            await machine.resume()
            await machine.start()
        try:
            await self._db.finish_replacements()
        except DatabaseFailed as error:
            self.problems.append(str(error))
        until_ns = self._now_ns() + round(RECOVERY_S * 1e9)
        while missing := await self._db.not_ready():
            if self._now_ns() > until_ns:
                self.problems += [
                    f"{name} does not serve {RECOVERY_S:.0f} s after everything was healed: {why}"
                    for name, why in missing.items()
                ]
                return
            await asyncio.sleep(POLL_S)


_NOT_BEGUN = ActiveFault("", "", nothing_to_undo)
