"""The linearizability checker: a search for an order that explains all results (Wing & Gong, Lowe).

A depth-first search over configurations: which calls were taken so far, and the state that they
left behind. A configuration is tried once. It is named by the first call, in the order of their
ends, that is still missing, by a bit set of those taken beyond it, and by a bit set of those taken
whose end is unknown; so its name is as short as the calls are concurrent, however long the history.

A history is linearizable if its keys are, so each key is searched alone. Models are pure
functions; `register.py` makes calls of operations.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NEVER = float("inf")


class SearchVerdict(enum.Enum):
    """UNKNOWN: the search was given up; it is never a pass."""

    OK = "ok"
    ILLEGAL = "illegal"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation. `ended` NEVER: it may take effect at any time from its start on, or not at
    all; its output is None if it is unknown. `name` identifies the call for the caller.
    """

    began: float
    ended: float
    input: Any
    output: Any = None
    name: int = -1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled in half of the time that a dataclass takes."""
        return Call, (self.began, self.ended, self.input, self.output, self.name)


def _never(state: Any, asked: Any, returned: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Model:
    """A specification as pure functions; states are hashable.

    `step` gives whether the output is right in this state, and the state afterwards. `at_once`
    says of a state, an input and a known output that fit whether no order does better than one
    that takes the call now; of a read for example, which leaves every state as it is.
    """

    initial: Hashable
    step: Callable[[Any, Any, Any], tuple[bool, Any]]
    at_once: Callable[[Any, Any, Any], bool] = _never


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of a history that is not OK: `longest` is the order that came furthest, and `stuck` are the
    calls that might have come next and do not fit.
    """

    verdict: SearchVerdict
    longest: tuple[Call, ...] = ()
    stuck: tuple[Call, ...] = ()


# How many calls are done without a gap, which beyond them, which of the optional ones, the state.
_Configuration = tuple[int, int, int, Any]
# The calls of a path, the last one first; shared between paths.
_Path = tuple[Any, Call] | None
STEPS_MAX = 2_000_000


def check(model: Model, calls: Sequence[Call], steps_max: int = STEPS_MAX) -> Judgement:
    """Judge the calls on one key."""
    return _explored(_Search(model, calls), model, set(), steps_max)


def states_when_quiet(
    model: Model, calls: Sequence[Call]
) -> Iterator[tuple[Sequence[Call], set[Any]]]:
    """Of illegal calls: the moments at which none is open, the latest ones first.

    Each is given by the calls that begin later, and by all states that are possible then. Calls
    whose end is unknown count as later. Other calls have no such moment.
    """
    search, tried = _Search(model, calls), set[_Configuration]()
    if _explored(search, model, tried, STEPS_MAX).verdict is not SearchVerdict.ILLEGAL:
        return
    states: defaultdict[int, set[Any]] = defaultdict(set)
    for done, ahead, _, state in tried:
        if not ahead:
            states[done].add(state)
    later_began = NEVER
    for done in range(len(search.required) - 1, 0, -1):
        later_began = min(later_began, search.required[done].began)
        if done in states and search.required[done - 1].ended < later_began:
            yield (*search.optional, *search.required[done:]), states[done]


def _explored(
    search: _Search, model: Model, tried: set[_Configuration], steps_max: int
) -> Judgement:
    """Adds the configurations that were reached to `tried`: all there are if it is ILLEGAL."""
    start: _Configuration = (0, 0, 0, model.initial)
    tried.add(start)
    stack: list[tuple[_Configuration, _Path, Iterator[tuple[_Configuration, Call]]]] = [
        (start, None, search.following(start))
    ]
    furthest, furthest_path = start, None
    steps = 0
    while stack:
        here, path, ways = stack[-1]
        if here[0] == len(search.required):
            return Judgement(SearchVerdict.OK)
        for there, call in ways:
            steps += 1
            if there not in tried:
                tried.add(there)
                stack.append((there, (path, call), search.following(there)))
                break
        else:
            stack.pop()
            if here[0] >= furthest[0]:
                furthest, furthest_path = here, path
        if steps > steps_max:
            return _judgement(SearchVerdict.UNKNOWN, search, furthest, furthest_path)
    return _judgement(SearchVerdict.ILLEGAL, search, furthest, furthest_path)


class _Search:
    """The calls of one key, arranged so that what may come next is found without searching."""

    def __init__(self, model: Model, calls: Sequence[Call]) -> None:
        self._step = model.step
        self._at_once = model.at_once
        self.required = sorted(
            (call for call in calls if call.ended != NEVER), key=lambda call: call.ended
        )
        self.optional = sorted(
            (call for call in calls if call.ended == NEVER), key=lambda call: call.began
        )
        self._open: list[tuple[int, ...]] = []
        self._optional_open: list[int] = []
        self._arrange()

    def _arrange(self) -> None:
        """Which calls may be taken while required call `missing` is the first one not taken.

        All that began before its end; at the same instant the two overlap.
        """
        begun = sorted(range(len(self.required)), key=lambda number: self.required[number].began)
        next_begun, optional, pending = 0, 0, list[int]()
        for missing, call in enumerate(self.required):
            while next_begun < len(begun) and self.required[begun[next_begun]].began <= call.ended:
                pending.append(begun[next_begun])
                next_begun += 1
            while optional < len(self.optional) and self.optional[optional].began <= call.ended:
                optional += 1
            pending = sorted(number for number in pending if number >= missing)
            self._open.append(tuple(pending))
            self._optional_open.append(optional)

    def following(self, here: _Configuration) -> Iterator[tuple[_Configuration, Call]]:
        """Each configuration one call further; the one that most likely leads on comes first."""
        done, ahead, taken, state = here
        if done == len(self.required):
            return
        changing: list[tuple[_Configuration, Call]] = []
        for number in self._open[done]:
            if ahead >> (number - done) & 1:
                continue
            call = self.required[number]
            fits, next_state = self._step(state, call.input, call.output)
            if fits:
                beyond = ahead | 1 << (number - done)
                gapless = (~beyond & (beyond + 1)).bit_length() - 1
                way = ((done + gapless, beyond >> gapless, taken, next_state), call)
                if self._at_once(state, call.input, call.output):
                    yield way
                    return
                changing.append(way)
        yield from changing
        for number in range(self._optional_open[done]):
            if not taken >> number & 1:
                call = self.optional[number]
                fits, next_state = self._step(state, call.input, call.output)
                # A call that need not have happened helps only if it changes something.
                if fits and next_state != state:
                    yield (done, ahead, taken | 1 << number, next_state), call

    def missing(self, here: _Configuration) -> tuple[Call, ...]:
        """What might come next by its times."""
        done, ahead, taken, _ = here
        return (
            *(self.required[n] for n in self._open[done] if not ahead >> (n - done) & 1),
            *(self.optional[n] for n in range(self._optional_open[done]) if not taken >> n & 1),
        )


def _judgement(
    verdict: SearchVerdict, search: _Search, furthest: _Configuration, path: _Path
) -> Judgement:
    calls: list[Call] = []
    while path is not None:
        path, call = path
        calls.append(call)
    return Judgement(verdict, tuple(reversed(calls)), search.missing(furthest))
