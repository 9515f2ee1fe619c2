"""The HTML page of a run: the content of each section of the template."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jepsen_lite.history import Kind
from jepsen_lite.report import format, load_plots, space_time, timelines
from jepsen_lite.report.focus import Counterexample, Focus, counterexamples, find_focus
from jepsen_lite.report.record import NS_PER_S, LogLine, RunRecord, plain
from jepsen_lite.verdicts import Finding, Validity

PROBLEMS_OPEN_MAX = 5  # of one finding; the next are folded, results.json has all
PROBLEMS_MAX = 20
DRAWN_MAX = 6
FAULTS_MAX = 300
LOG_LINES_MAX = 500
LOG_CHARS_MAX = 400
TEXT_CHARS_MAX = 4_000
_SHOWN_ELSEWHERE = {"command", "versions", "options", "phases", "ended_ns"}

_ENVIRONMENT = Environment(
    loader=PackageLoader("jepsen_lite.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["shortened"] = format.shortened
_ENVIRONMENT.filters["duration"] = format.duration


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The text of the banner."""

    css_class: str
    sign: str
    word: str
    sentence: str


def page(record: RunRecord) -> str:
    """One HTML document that needs nothing beside it."""
    found = counterexamples(record)
    focus = find_focus(record, found)
    script = source("behaviour.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _ENVIRONMENT.get_template("report.html.j2").render(
        title=title(record),
        record=record,
        verdict=_verdict(record),
        tiles=list(_tiles(record)),
        findings=_worst_first(record.findings),
        statistics={each.checker: _pretty(each.statistics) for each in record.findings},
        examples=[_example(each, record) for each in found[:DRAWN_MAX]],
        examples_left_out=max(0, len(found) - DRAWN_MAX),
        fault_strip=load_plots.fault_strip(record),
        latency=load_plots.latency_plots(record),
        rate=load_plots.rate_plot(record),
        focus=focus,
        timeline=timelines.timeline(record, focus),
        messages=space_time.space_time(record, focus),
        log=_log_around(record, focus),
        facts=facts(record),
        options=_flat(record.test.get("options")),
        phases=_phases(record),
        versions=_flat(record.test.get("versions")),
        command=command(record),
        processes_left_out=timelines.processes_left_out(focus),
        limits={"open_problems": PROBLEMS_OPEN_MAX, "problems": PROBLEMS_MAX,
                "text": TEXT_CHARS_MAX, "log": LOG_CHARS_MAX, "faults": FAULTS_MAX},
        style=source("style.css"),
        script=script,
        script_digest=digest,
    )  # fmt: skip


def environment() -> Environment:
    """Where the templates are, and how they are filled: everything is escaped."""
    return _ENVIRONMENT


def source(name: str) -> str:
    """A template's text as it is."""
    assert _ENVIRONMENT.loader is not None
    return _ENVIRONMENT.loader.get_source(_ENVIRONMENT, name)[0]


def title(record: RunRecord) -> str:
    """`register on raftkv`."""
    load = record.test.get("workloads") or record.test.get("workload")
    names = load if isinstance(load, list) else [load] if load else []
    if not names:
        names = list(dict.fromkeys(event.workload for event in record.history.events))
    system = record.test.get("system")
    title = format.listing(str(name) for name in names) or record.directory.resolve().name
    return f"{title} on {system}" if system else title


def _verdict(record: RunRecord) -> _Verdict:
    if record.validity is None:
        why = "The run ended before its history was judged; jepsen-lite check judges it now."
        return _Verdict("unknown", "?", "not judged", why)
    worst = [each for each in record.findings if each.validity is record.validity]
    names = format.listing(dict.fromkeys(each.checker for each in worst))
    problems = sum(len(each.problems) for each in worst)
    match record.validity:
        case Validity.VALID:
            return _Verdict("valid", "✓", "valid", _praise(record))
        case Validity.INVALID:
            count = format.count(problems, "problem")
            return _Verdict("invalid", "✗", "INVALID", f"{names} found {count}. {_first(worst)}")
        case Validity.UNKNOWN:
            sentence = f"{names} could not decide; that is no pass. {_first(worst)}"
            return _Verdict("unknown", "?", "unknown", sentence)
        case Validity.VACUOUS:
            sentence = f"Nothing was proved, says {names or 'the run'}. {_first(worst)}"
            return _Verdict("vacuous", "∅", "vacuous", sentence)


def _praise(record: RunRecord) -> str:
    checkers = format.count(len(record.findings), "checker")
    operations = format.count(len(record.operations), "operation")
    effective = [each for each in record.faults if each.took_effect]
    if not effective:
        return f"{checkers} found nothing wrong in {operations}, without faults."
    kinds = format.listing(dict.fromkeys(each.name for each in effective))
    faults = format.count(len(effective), "fault")
    return f"{checkers} found nothing wrong in {operations} under {faults} ({kinds})."


def _worst_first(findings: Sequence[Finding]) -> Sequence[Finding]:
    """What is wrong is not to be looked for among what is right."""
    order = (Validity.INVALID, Validity.UNKNOWN, Validity.VACUOUS, Validity.VALID)
    return sorted(findings, key=lambda each: order.index(each.validity))


def _first(findings: Sequence[Finding]) -> str:
    """The first problem's first sentence."""
    texts = [problem.text for finding in findings for problem in finding.problems]
    if not texts:
        return ""
    sentence, _, _ = texts[0].partition("\n")[0].partition(". ")
    return format.shortened(sentence.rstrip(":.") + ".")


def _tiles(record: RunRecord) -> Iterator[tuple[str, str]]:
    """(name, number) of the figures that show the size of a run at a glance."""
    kinds = Counter(each.kind for each in record.operations)
    total = len(record.operations)
    seconds = (record.ended_ns - record.began_ns) / NS_PER_S
    yield "operations", f"{total:,}"
    yield "ok", f"{kinds[Kind.OK] / total:.1%}" if total else "-"
    yield "failed", f"{kinds[Kind.FAIL]:,}"
    yield "outcome unknown", f"{kinds[Kind.INFO]:,}"
    yield "duration", format.duration(seconds * NS_PER_S)
    yield "ok per second", f"{kinds[Kind.OK] / seconds:,.0f}" if seconds > 0 else "-"
    effective = sum(each.took_effect for each in record.faults)
    yield "faults", f"{effective:,}"
    if "seed" in record.test:
        yield "seed", str(record.test["seed"])


def _example(found: Counterexample, record: RunRecord) -> Mapping[str, Any]:
    began_ns = min(each.invocation.time_ns for each in found.operations)
    ended_ns = max(
        each.completion.time_ns for each in found.operations if each.completion is not None
    ) if any(each.completion for each in found.operations) else began_ns  # fmt: skip
    during = [
        each
        for each in record.faults
        if each.took_effect
        and each.began_ns <= ended_ns
        and (each.ended_ns is None or each.ended_ns >= began_ns)
    ]
    return {
        "checker": found.checker,
        "text": found.problem.text,
        "events": found.problem.events,
        "picture": timelines.steps(found, record),
        "story": format.story(found.operations[: timelines.STEPS_MAX]),
        "left_out": max(0, len(found.operations) - timelines.STEPS_MAX),
        "faults": format.listing(
            f"{each.name} {each.target}".strip() for each in during[:8]
        ),
    }  # fmt: skip


def _log_around(record: RunRecord, focus: Focus) -> Sequence[LogLine]:
    """The lines nearest to the failure; without one those that warn, and the last."""
    if focus.failed_ns is not None and any(each.time_ns is not None for each in record.log):
        failed_ns = focus.failed_ns
        placed = [each for each in record.log if each.time_ns is not None]
        nearest = sorted(placed, key=lambda each: abs((each.time_ns or 0) - failed_ns))
        return sorted(nearest[:LOG_LINES_MAX], key=_moment)
    ordered = sorted(record.log, key=_moment)
    loud = [each for each in ordered[:-LOG_LINES_MAX] if each.level not in ("", "debug", "info")]
    quiet_max = LOG_LINES_MAX - len(loud[-LOG_LINES_MAX // 2 :])
    return [*loud[-LOG_LINES_MAX // 2 :], *ordered[-quiet_max:]]


def _moment(line: LogLine) -> float:
    """What can't be placed comes last: most often the words with which a process ended."""
    return line.time_ns if line.time_ns is not None else float("inf")


def facts(record: RunRecord) -> Mapping[str, str]:
    """The entries of test.json about the run as a whole, as words."""
    facts = {
        name: found
        for name, found in record.test.items()
        if name not in _SHOWN_ELSEWHERE and found not in ("", [], None)
    }
    return _flat(facts)


def command(record: RunRecord) -> str:
    """What repeats this run; empty if it was not noted."""
    noted = record.test.get("command", "")
    return shlex.join(map(str, noted)) if isinstance(noted, list) else str(noted)


def _flat(found: object) -> Mapping[str, str]:
    if not isinstance(found, dict):
        return {}
    return {str(name): format.shortened(plain(content)) for name, content in found.items()}


def _phases(record: RunRecord) -> Mapping[str, str]:
    """When each phase of the run began."""
    noted = record.test.get("phases")
    if not isinstance(noted, dict):
        return {}
    return {
        str(name): f"from {began_ns / NS_PER_S:.3f} s"
        for name, began_ns in noted.items()
        if isinstance(began_ns, int)
    }


def _pretty(statistics: Mapping[str, Any]) -> str:
    return format.shortened(json.dumps(statistics, indent=1, default=str), TEXT_CHARS_MAX)
