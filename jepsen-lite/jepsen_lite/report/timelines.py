"""Operations as bars: the counterexample in its order, and all operations around it, to scale."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import Kind, Operation
from jepsen_lite.report.drawing import Drawing, Scale, round_ticks
from jepsen_lite.report.focus import Counterexample, Focus
from jepsen_lite.report.format import call, count, details, duration, shortened
from jepsen_lite.report.record import RunRecord

WIDTH = 1100
LEFT = 96
RIGHT = 1084
ROW_HEIGHT = 22
PROCESSES_MAX = 48
STEPS_MAX = 24
_LABELS_WIDTH = 470
_CHAR_PX = 6.3


def steps(found: Counterexample, record: RunRecord) -> Markup:
    """A row for each operation; across, their beginnings and ends in order and not to scale.

    To scale, what matters would be lost: operations of milliseconds that lie seconds apart.
    """
    shown = found.operations[:STEPS_MAX]
    moments = sorted({moment for each in shown for moment in _known_moments(each)})
    place = {moment: number for number, moment in enumerate(moments)}
    across = Scale(0, max(len(moments) - 1, 1), _LABELS_WIDTH + 24, WIDTH - 60)
    bottom = 30 + len(shown) * 30
    alternative = f"The {count(len(shown), 'operation')} of the counterexample, in order"
    drawing = Drawing(WIDTH, bottom + 8, "steps", alternative)
    _moments_axis(drawing, moments, across, bottom, record)
    for row, operation in enumerate(shown):
        top = 34 + row * 30
        tooltip = details(operation, record.seconds(operation.invocation.time_ns))
        drawing.begin(tooltip, class_=f"op {operation.kind} named", tabindex=0)
        _badge(drawing, row + 1, 14, top + 10)
        label = f"{call(operation)}"
        drawing.add("text", shortened(label, 56), x=32, y=top + 9, class_="call")
        who = f"process {operation.invocation.process}"
        if operation.invocation.node:
            who += f" at {operation.invocation.node}"
        drawing.add("text", f"{who} · {operation.kind}", x=32, y=top + 21, class_="axis")
        known = [across.at(place[moment]) for moment in _known_moments(operation)]
        began = known[0]
        open_ended = operation.kind is Kind.INFO
        ended = WIDTH - 24.0 if open_ended else known[-1]
        _bar(drawing, operation, began, ended, top + 3, 15, open_ended=open_ended)
        drawing.end()
    return drawing.markup()


def _known_moments(operation: Operation) -> list[int]:
    """Of an unknown outcome the end means nothing: the operation may act after it."""
    moments = [operation.invocation.time_ns]
    if operation.completion is not None and operation.kind is not Kind.INFO:
        moments.append(operation.completion.time_ns)
    return moments


def _moments_axis(
    drawing: Drawing, moments: Sequence[int], across: Scale, bottom: float, record: RunRecord
) -> None:
    last_label_px = -1e9
    for number, moment in enumerate(moments):
        x = across.at(number)
        drawing.add("path", d=f"M{x:.1f} 26V{bottom}", class_="grid")
        since = moment - moments[0]
        label = f"{record.seconds(moment):.4f} s" if number == 0 else f"+{duration(since)}"
        if x - last_label_px > 62:
            drawing.add("text", label, x=x, y=18, class_="axis middle")
            last_label_px = x


def timeline(record: RunRecord, focus: Focus) -> Markup | None:
    """A row for each process, to scale; a bar for each operation."""
    rows = _rows(focus)
    if not rows:
        return None
    faults = [each for each in record.faults if each.took_effect and _touches(each, focus, record)]
    top = 26 + 14 * min(len(faults), 4)
    bottom = top + len(rows) * ROW_HEIGHT
    across = Scale(record.seconds(focus.began_ns), record.seconds(focus.ended_ns), LEFT, RIGHT)
    drawing = Drawing(
        WIDTH,
        bottom + 24,
        "timeline",
        f"Timeline of {count(len(focus.operations), 'operation')} by process, {focus.why}",
    )
    _fault_bands(drawing, record, faults, across, bottom)
    _axis(drawing, across, top - 8, bottom)
    for number, (process, operations) in enumerate(rows.items()):
        y = top + number * ROW_HEIGHT
        drawing.add("text", f"process {process}", x=LEFT - 8, y=y + 14, class_="axis end")
        drawing.add("path", d=f"M{LEFT} {y + ROW_HEIGHT - 1}H{RIGHT}", class_="grid")
        # Those of the counterexample last: nothing shall lie upon their names.
        for operation in sorted(operations, key=lambda each: each.invoked_at in focus.numbers):
            _operation(drawing, record, focus, operation, across, y + 3)
    return drawing.markup()


def processes_left_out(focus: Focus) -> int:
    """How many processes of the window the timeline has no row for."""
    return max(0, len({each.invocation.process for each in focus.operations}) - PROCESSES_MAX)


def _rows(focus: Focus) -> dict[int, list[Operation]]:
    """The counterexample's processes are kept when there are more than can be read."""
    rows: dict[int, list[Operation]] = {}
    for operation in focus.operations:
        rows.setdefault(operation.invocation.process, []).append(operation)
    named = {
        each.invocation.process for each in focus.operations if each.invoked_at in focus.numbers
    }
    kept = sorted(rows, key=lambda process: (process not in named, process))[:PROCESSES_MAX]
    return {process: rows[process] for process in sorted(kept)}


def _touches(fault: FaultRecord, focus: Focus, record: RunRecord) -> bool:
    ended_ns = fault.ended_ns if fault.ended_ns is not None else record.ended_ns
    return fault.began_ns <= focus.ended_ns and ended_ns >= focus.began_ns


def _fault_bands(
    drawing: Drawing, record: RunRecord, faults: Sequence[FaultRecord], across: Scale, bottom: float
) -> None:
    for number, fault in enumerate(faults):
        ended_ns = fault.ended_ns if fault.ended_ns is not None else record.ended_ns
        began = across.at(record.seconds(fault.began_ns))
        ended = max(across.at(record.seconds(ended_ns)), began + 1.5)
        row_y = 4 + 14 * min(number, 3)
        drawing.add(
            "rect", x=began, y=row_y, width=ended - began, height=bottom - row_y, class_="band"
        )
        if number < 4:
            anchor = "axis end fault-name" if began > WIDTH * 0.75 else "axis fault-name"
            x = ended - 4 if began > WIDTH * 0.75 else began + 4
            label = shortened(f"{fault.name} {fault.target}", 60)
            drawing.add("text", label, x=x, y=row_y + 11, class_=anchor)


def _axis(drawing: Drawing, across: Scale, top: float, bottom: float) -> None:
    ticks = list(round_ticks(across.low, across.high, 8))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, len(f"{step:.6f}".rstrip("0").partition(".")[2]))
    for second in ticks:
        x = across.at(second)
        drawing.add("path", d=f"M{x:.1f} {top}V{bottom}", class_="grid")
        drawing.add("text", f"{second:.{digits}f} s", x=x, y=bottom + 16, class_="axis middle")


def _operation(
    drawing: Drawing, record: RunRecord, focus: Focus, operation: Operation, across: Scale, y: float
) -> None:
    began_s = record.seconds(operation.invocation.time_ns)
    began = across.at(began_s)
    ended = RIGHT + 0.0
    if operation.completion is not None:
        ended = across.at(record.seconds(operation.completion.time_ns))
    number = focus.numbers.get(operation.invoked_at)
    named = " named" if number else ""
    drawing.begin(details(operation, began_s), class_=f"op {operation.kind}{named}", tabindex=-1)
    width = max(ended - began, 3.0)
    _bar(drawing, operation, began, began + width, y, ROW_HEIGHT - 7, open_ended=False)
    if number:
        _badge(drawing, number, began - 10, y + 7.5)
    letters_max = int((width - 8) / _CHAR_PX)
    if letters_max > 6 or number:
        # What belongs to the counterexample is named also where its bar is too small for that.
        inside = letters_max > 6
        label = shortened(call(operation), letters_max if inside else 40)
        at_left = not inside and began > WIDTH * 0.7
        x = began + 4 if inside else began - 22 if at_left else began + width + 5
        anchor = "in-bar end" if at_left else "in-bar"
        drawing.add("text", label, x=x, y=y + 11.5, class_=anchor)
    drawing.end()


def _bar(
    drawing: Drawing,
    operation: Operation,
    began: float,
    ended: float,
    y: float,
    height: float,
    *,
    open_ended: bool,
) -> None:
    """OK is solid, FAIL is struck through, INFO is dashed and, `open_ended`, has an arrow."""
    width = max(ended - began, 3.0)
    drawing.add("rect", x=began, y=y, width=width, height=height, rx=2, class_="bar")
    middle = y + height / 2
    if operation.kind is Kind.FAIL:
        drawing.add("path", d=f"M{began:.1f} {middle}h{width:.1f}", class_="strike")
    elif open_ended:
        drawing.add("path", d=f"M{ended:.1f} {y}l9 {height / 2}l-9 {height / 2}", class_="bar tip")


def _badge(drawing: Drawing, number: int, x: float, y: float) -> None:
    drawing.add("circle", cx=x, cy=y, r=8, class_="badge")
    drawing.add("text", str(number), x=x, y=y + 3.8, class_="badge-text")
