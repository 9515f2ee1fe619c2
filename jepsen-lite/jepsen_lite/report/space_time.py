"""Raft messages between the nodes around the failure, as a space-time diagram (Lamport).

Down is time, a row to an event and so not to scale. The sender's vector clock goes with each
message, so that the page can show what had led to it and what it may have led to.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup

from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.report.focus import Focus
from jepsen_lite.report.format import call, count, shortened
from jepsen_lite.report.record import Message, RunRecord
from jepsen_lite.report.svg import Drawing
from jepsen_lite.verdicts import Validity

WIDTH = 1100
MESSAGES_MAX = 64
ROW_HEIGHT = 20
_TOP = 34
_LEFT = 150.0
_RIGHT = 760.0
_MARKS_AT = 815.0
_LINE_CHARS = 44
_LINE_HEIGHT = 14
_LINES_MAX = 5  # what broke in full, everything else only by name
_UNKNOWN_FLIGHT_ROWS = 0.75  # how far down an arrow goes without a recorded arrival


_FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class _Mark:
    """Something that is no message: what a client saw, or a fault."""

    time_ns: int
    text: str
    css_class: str

    @property
    def lines(self) -> list[str]:
        if self.css_class != _FAILURE:
            return [shortened(self.text, _LINE_CHARS)]
        return wrap(self.text, _LINE_CHARS, max_lines=_LINES_MAX, placeholder=" …")


@dataclass(slots=True)
class _Repeated:
    """A message, and how often its sender repeated it without receiving anything in between."""

    message: Message
    times: int = 1
    last_ns: int = 0


def space_time(record: RunRecord, focus: Focus) -> Markup | None:
    """None where the run recorded no messages."""
    shown = _nearest(_without_repetitions(record.messages), focus)
    if not shown:
        return None
    messages = [each.message for each in shown]
    names = sorted({name for each in messages for name in (each.sender, each.receiver)})
    step = (_RIGHT - _LEFT) / max(len(names) - 1, 1)
    columns = {name: _LEFT + number * step for number, name in enumerate(names)}
    high_ns = max(_last_arrival_ns(messages), record.failed_ns or 0)
    marks = list(_marks(record, focus, messages[0].time_ns, high_ns))
    sent, received, marked = _rows(messages, marks, high_ns)
    bottom = _y(len(messages) + len(received) + len(marks))
    contents = f"{count(len(messages), 'Raft message')} between {', '.join(names)}"
    below = _LINE_HEIGHT * (_LINES_MAX - 1) if record.failed_ns is not None else 0
    drawing = Drawing(WIDTH, bottom + 8 + below, "space-time", f"Space-time diagram of {contents}")
    rows_of = {(mark.time_ns, mark.text): marked[number] for number, mark in enumerate(marks)}
    _bands(drawing, record, (messages[0].time_ns, high_ns), rows_of, columns, bottom)
    for name, x in columns.items():
        drawing.add("text", shortened(name, 18), x=x, y=16, class_="lifeline-name middle")
        drawing.add("path", d=f"M{x:.1f} {_TOP - 10}V{bottom:.1f}", class_="lifeline")
    for number, mark in enumerate(marks):
        _draw_mark(drawing, mark, _y(marked[number]), record)
    for number, each in enumerate(shown):
        flight_rows = received.get(number, sent[number] + _UNKNOWN_FLIGHT_ROWS)
        late_ns = None if number in received else each.message.received_ns
        _arrow(drawing, record, each, columns, _y(sent[number]), _y(flight_rows), late_ns)
    return drawing.markup()


def _y(row: float) -> float:
    return _TOP + row * ROW_HEIGHT


def _without_repetitions(messages: Sequence[Message]) -> list[_Repeated]:
    """In the order of their (first) sending; repetitions of an unanswered leader are merged."""
    found: list[_Repeated] = []
    latest: dict[object, tuple[_Repeated, Mapping[str, int]]] = {}
    for message in sorted(messages, key=lambda each: each.time_ns):
        words = (
            message.sender,
            message.receiver,
            message.kind,
            message.term,
            message.index,
            message.lost,
        )
        received = {name: ticks for name, ticks in message.clock.items() if name != message.sender}
        before = latest.get(words)
        if before is not None and message.clock and before[1] == received:
            before[0].times += 1
            before[0].last_ns = message.time_ns
        else:
            found.append(_Repeated(message))
            latest[words] = (found[-1], received)
    return found


def _nearest(ordered: Sequence[_Repeated], focus: Focus) -> Sequence[_Repeated]:
    """Most of what is shown lies before a failure, where its cause is, or after a fault."""
    centre = bisect_left(ordered, focus.moment_ns, key=lambda each: each.message.time_ns)
    before = MESSAGES_MAX // 4 if focus.failed_ns is None else MESSAGES_MAX * 2 // 3
    first = max(0, min(centre - before, len(ordered) - MESSAGES_MAX))
    return ordered[first : first + MESSAGES_MAX]


def _last_arrival_ns(messages: Sequence[Message]) -> int:
    """Of those that arrive soon after the last sending, as such a picture goes."""
    last_ns = messages[-1].time_ns
    reach_ns = last_ns + (last_ns - messages[0].time_ns) // 8
    arrivals = [each.received_ns for each in messages if each.received_ns is not None]
    return max([last_ns, *(each for each in arrivals if each <= reach_ns)])


def _marks(record: RunRecord, focus: Focus, low_ns: int, high_ns: int) -> Iterator[_Mark]:
    found = []
    if focus.counterexample is not None:
        for number, operation in enumerate(focus.counterexample.operations, 1):
            began, ended = operation.invocation, operation.completion
            asked = f"({number}) begins: {began.function} {began.key}"
            found.append(_Mark(began.time_ns, asked, "client"))
            if ended is not None:
                text = f"({number}) {operation.kind}: {call(operation)}"
                found.append(_Mark(ended.time_ns, text, "client"))
    for fault in record.faults:
        if fault.took_effect:
            found.append(_Mark(fault.began_ns, f"{_named(fault)} begins", "of-fault"))
            if fault.ended_ns is not None:
                found.append(_Mark(fault.ended_ns, f"{_named(fault)} ends", "of-fault"))
    if record.failed_ns is not None:
        found += [_Mark(record.failed_ns, text, _FAILURE) for text in _broken(record)]
    return (each for each in found if low_ns <= each.time_ns <= high_ns)


def _named(fault: FaultRecord) -> str:
    return f"{fault.name} {fault.target}".strip()


def _broken(record: RunRecord) -> Iterator[str]:
    """What broke, without the moment: the row shows it."""
    for finding in record.findings:
        if finding.validity is Validity.INVALID:
            for problem in finding.problems[:1]:
                yield re.sub(r"^at [0-9.]+ s: ", "", problem.text)


def _rows(
    messages: Sequence[Message], marks: Sequence[_Mark], high_ns: int
) -> tuple[Mapping[int, int], Mapping[int, int], Mapping[int, int]]:
    """The rows of the messages' sendings, of their arrivals where known, and of the marks."""
    # At one instant an arrival comes after the sending, so that no arrow points up, and what
    # broke after the arrival that broke it.
    events = [
        (mark.time_ns, 3 if mark.css_class == _FAILURE else 0, "marked", number)
        for number, mark in enumerate(marks)
    ]
    for number, message in enumerate(messages):
        events.append((message.time_ns, 1, "sent", number))
        if message.received_ns is not None and message.time_ns <= message.received_ns <= high_ns:
            events.append((message.received_ns, 2, "received", number))
    rows: dict[str, dict[int, int]] = {"sent": {}, "received": {}, "marked": {}}
    for row, (_, _, what, number) in enumerate(sorted(events)):
        rows[what][number] = row
    return rows["sent"], rows["received"], rows["marked"]


def _bands(
    drawing: Drawing,
    record: RunRecord,
    window_ns: tuple[int, int],
    rows_of: Mapping[tuple[int, str], int],
    columns: Mapping[str, float],
    bottom: float,
) -> None:
    """Behind all else, from where a fault began to where it ended, or through the whole picture.

    The lifelines of the nodes it is about are thick meanwhile, if it is not about all of them.
    """
    low_ns, high_ns = window_ns
    through = 0
    for fault in record.faults:
        ended_ns = fault.ended_ns if fault.ended_ns is not None else record.ended_ns
        if not fault.took_effect or fault.began_ns > high_ns or ended_ns < low_ns:
            continue
        name = _named(fault)
        first = rows_of.get((fault.began_ns, f"{name} begins"))
        last = rows_of.get((ended_ns, f"{name} ends"))
        began = _TOP - 10 if first is None else _y(first)
        ended = bottom if last is None else _y(last)
        height = max(ended - began, 2.0)
        left = _LEFT - 45
        drawing.add(
            "rect", x=left, y=began, width=_MARKS_AT - 6 - left, height=height, class_="band"
        )
        targets = set(re.split(r"[^\w-]+", fault.target))
        hit = [node for node in columns if node in targets]
        for node in hit if len(hit) < len(columns) else ():
            line = f"M{columns[node]:.1f} {began:.1f}v{height:.1f}"
            drawing.add("path", d=line, class_="lifeline of-fault")
        if fault.began_ns < low_ns:
            since = f"{name}, since {record.seconds(fault.began_ns):.3f} s"
            y = _TOP - 6 + _LINE_HEIGHT * through
            drawing.add("text", shortened(since, _LINE_CHARS), x=_MARKS_AT, y=y, class_="band-text")
            through += 1


def _draw_mark(drawing: Drawing, mark: _Mark, y: float, record: RunRecord) -> None:
    drawing.begin(f"{record.seconds(mark.time_ns):.6f} s\n{mark.text}", class_=mark.css_class)
    drawing.add("path", d=f"M{_LEFT - 40} {y:.1f}H{_MARKS_AT - 6}", class_="mark")
    for number, line in enumerate(mark.lines):
        below = y + 4 + number * _LINE_HEIGHT
        drawing.add("text", line, x=_MARKS_AT, y=below, class_="mark-text")
    drawing.end()
    _time(drawing, record.seconds(mark.time_ns), y)


def _time(drawing: Drawing, seconds: float, y: float) -> None:
    drawing.add("text", f"{seconds:.4f} s", x=_LEFT - 52, y=y + 4, class_="axis end")


def _arrow(
    drawing: Drawing,
    record: RunRecord,
    repeated: _Repeated,
    columns: Mapping[str, float],
    sent_y: float,
    arrived_y: float,
    late_ns: int | None,
) -> None:
    """`late_ns`: when it arrived, if that lies below the picture."""
    message = repeated.message
    began, ended = columns[message.sender], columns[message.receiver]
    late = late_ns is not None
    if message.lost or late:  # it ends on its way, with a cross if it was lost
        ended = began + (ended - began) * 0.62
        arrived_y = sent_y + (arrived_y - sent_y) * 0.62
    drawing.begin(
        _details(repeated, record),
        class_="message lost" if message.lost else "message late" if late else "message",
        tabindex=-1,
        data_from=message.sender,
        data_clock=json.dumps(message.clock, separators=(",", ":")),
    )
    line = f"M{began:.1f} {sent_y:.1f}L{ended:.1f} {arrived_y:.1f}"
    drawing.add("path", d=line, class_="reach")
    drawing.add("path", d=line, class_="arrow")
    drawing.add("circle", cx=began, cy=sent_y, r=2.6, class_="sent")
    if message.lost:
        cross = f"M{ended - 4:.1f} {arrived_y - 4:.1f}l8 8m0-8l-8 8"
        drawing.add("path", d=cross, class_="cross")
    else:
        back = -7 if ended > began else 7
        head = f"M{ended:.1f} {arrived_y:.1f}l{back}-4.5v8z"
        drawing.add("path", d=head, class_="head")
    towards = 1 if columns[message.receiver] > began else -1
    anchor = "start" if towards > 0 else "end"
    label = _label(repeated)
    if late_ns is not None:
        label += f" (arrives at {record.seconds(late_ns):.3f} s)"
    drawing.add("text", label, x=began + 9 * towards, y=sent_y - 2.5, class_=f"label {anchor}")
    drawing.end()
    _time(drawing, record.seconds(message.time_ns), sent_y)


def _label(repeated: _Repeated) -> str:
    message = repeated.message
    parts = [shortened(message.kind, 24)]
    if message.term is not None:
        parts.append(f"t{message.term}")
    if message.index is not None:
        parts.append(f"i{message.index}")
    if repeated.times > 1:
        parts.append(f"\N{MULTIPLICATION SIGN}{repeated.times}")
    return " ".join(parts)


def _details(repeated: _Repeated, record: RunRecord) -> str:
    message = repeated.message
    facts = [f"{message.kind} from {message.sender} to {message.receiver}"]
    if message.lost:
        facts[0] += ", lost"
    if repeated.times > 1:
        facts[0] += f", {repeated.times} times until {record.seconds(repeated.last_ns):.6f} s"
    sent = f"sent {record.seconds(message.time_ns):.6f} s"
    facts.append(f"{sent} · term {message.term} · index {message.index}")
    clock = ", ".join(f"{node}: {ticks}" for node, ticks in sorted(message.clock.items()))
    return "\n".join([*facts, f"vector clock of {message.sender}: {clock or 'not recorded'}"])
