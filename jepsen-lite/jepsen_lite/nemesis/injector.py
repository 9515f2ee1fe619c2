"""Carries out a schedule on a system, writes down what came of it, and takes everything back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jepsen_lite.db.base import Database, DatabaseFailed, NoEffect
from jepsen_lite.nemesis.base import ActiveFault, Fault, Nemesis, nothing_to_undo

RECOVERY_S = 60.0
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Struck:
    """What became of a fault; times are those of the history."""

    name: str
    target: str
    began_ns: int
    ended_ns: int
    detail: str
    took_effect: bool

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


class FaultInjector:
    """`struck` has every fault that is over; `problems`, what could not be taken back."""

    def __init__(
        self,
        system: Database,
        nemeses: Sequence[Nemesis],
        now_ns: Callable[[], int],
        on_struck: Callable[[Struck], None],
    ) -> None:
        self.problems: list[str] = []
        self._system = system
        self._nemeses = {nemesis.name: nemesis for nemesis in nemeses}
        self._now_ns = now_ns
        self._on_struck = on_struck
        # Two of one kind never overlap, however long it takes to undo one: so of three disks one
        # is damaged at most.
        self._under_way: set[str] = set()

    async def carry_out(self, schedule: Sequence[Fault]) -> None:
        """Return when every fault is over."""
        begun_ns = self._now_ns()
        async with asyncio.TaskGroup() as group:
            for fault in schedule:
                group.create_task(self._happen(fault, begun_ns))

    async def _happen(self, fault: Fault, begun_ns: int) -> None:
        await asyncio.sleep(fault.at_s - (self._now_ns() - begun_ns) / 1e9)
        began_ns = self._now_ns()
        nemesis = self._nemeses[fault.name]
        if fault.name in self._under_way:
            self._note(fault, _NOBODY, began_ns, "the one before is not over", took_effect=False)
            return
        self._under_way.add(fault.name)
        try:
            await self._strike_and_undo(nemesis, fault, began_ns)
        finally:
            self._under_way.remove(fault.name)

    async def _strike_and_undo(self, nemesis: Nemesis, fault: Fault, began_ns: int) -> None:
        try:
            strike = await nemesis.strike(self._system, fault)
        except NoEffect as reason:
            self._note(fault, _NOBODY, began_ns, str(reason), took_effect=False)
            return
        except Exception as error:  # noqa: BLE001 - one fault that fails must not end the others
            self._failed(fault, _NOBODY, began_ns, error)
            return
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            await self._undo(fault, strike, began_ns)

    async def _undo(self, fault: Fault, strike: ActiveFault, began_ns: int) -> None:
        try:
            more = await strike.undo()
        except NoEffect as reason:
            self._note(fault, strike, began_ns, f"{strike.detail}; {reason}", took_effect=False)
        except Exception as error:  # noqa: BLE001 - said in the verdict
            self._failed(fault, strike, began_ns, error)
        else:
            detail = f"{strike.detail}; {more}" if more else strike.detail
            self._note(fault, strike, began_ns, detail, took_effect=True)

    def _failed(self, fault: Fault, strike: ActiveFault, began_ns: int, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        self.problems.append(f"the fault {fault.name} could not be done or undone: {text}")
        self._note(fault, strike, began_ns, text, took_effect=False)

    def _note(
        self, fault: Fault, strike: ActiveFault, began_ns: int, detail: str, *, took_effect: bool
    ) -> None:
        self._on_struck(
            Struck(fault.name, strike.target, began_ns, self._now_ns(), detail, took_effect)
        )

    async def recover(self) -> None:
        """Everything runs and every node serves again, or a problem says who does not."""
        for machine in list(self._system.machines.values()):
            await machine.resume()
            await machine.start()
        try:
            await self._system.finish_replacements()
        except DatabaseFailed as error:
            self.problems.append(str(error))
        until_ns = self._now_ns() + round(RECOVERY_S * 1e9)
        while missing := await self._system.not_ready():
            if self._now_ns() > until_ns:
                self.problems += [
                    f"{name} does not serve {RECOVERY_S:.0f} s after everything was healed: {why}"
                    for name, why in missing.items()
                ]
                return
            await asyncio.sleep(LOOK_AGAIN_S)


_NOBODY = ActiveFault("", "", nothing_to_undo)
