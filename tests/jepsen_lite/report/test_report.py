"""The report names what is wrong, runs no code from values, and is always written."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jepsen_lite.history import Kind
from jepsen_lite.report.files import write
from tests.jepsen_lite.report import runs

HOSTILE = (
    "</script><script>alert(1)</script>"
    "<img src=http://evil.example/x onerror=alert(1)>'\"\x00\ud800"
)


class Page(HTMLParser):
    """The elements of a page, and the text that a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, css_class: str = "") -> int:
        return sum(
            tag == name and set(css_class.split()) <= set((attributes.get("class") or "").split())
            for name, attributes in self.elements
        )


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(runs.stale_read(tmp_path_factory.mktemp("stale") / "run"))


def test_a_report_refers_to_nothing_outside_itself(stale: Path) -> None:
    page = Page(stale)
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "use", "image"}
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"@import|url\(", stale.read_text())


def test_hostile_values_stay_text(tmp_path: Path) -> None:
    events = runs.in_order(
        runs.operation(1, 5, 9, (HOSTILE, HOSTILE, HOSTILE), {HOSTILE: HOSTILE}, node=HOSTILE)
        + runs.operation(2, 6, 9, ("read", "k", None), None, Kind.INFO, error=HOSTILE)
    )
    found = runs.finding(HOSTILE, "invalid", {"text": HOSTILE, "events": [0, 1]})
    run = runs.write_run(
        tmp_path / "run", events, "invalid", [found],
        test={**runs.TEST, "system": HOSTILE, "command": HOSTILE, "options": {HOSTILE: HOSTILE}},
        faults=[{"name": HOSTILE, "target": HOSTILE, "detail": HOSTILE, "began_ns": 1,
                 "ended_ns": 9}],
        messages=[{"time_ns": 5, "from": HOSTILE, "to": "n", "kind": HOSTILE,
                   "clock": {HOSTILE: 1}}],
        logs={"node-1": [{"event": HOSTILE, "level": HOSTILE, HOSTILE: HOSTILE}]},
    )  # fmt: skip
    page = Page(write(run))
    assert page.count("script") == 1
    assert page.count("img") == 0
    handlers = [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert handlers == []
    assert "alert(1)" in page.text
    ElementTree.parse(run / "junit.xml")


def test_the_policy_admits_the_page_s_own_script_only(stale: Path) -> None:
    policies = [attributes for tag, attributes in Page(stale).elements if tag == "meta"]
    policy = next(each["content"] for each in policies if each.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_the_counterexample_is_drawn_and_described(stale: Path) -> None:
    page = Page(stale)
    assert "INVALID" in page.text
    assert 'read register/9 → ["v70"]' in page.text
    assert "Operation 2 was over 16 ms before this one began." in page.text
    results = json.loads((stale.parent / "results.json").read_text())
    events = results["findings"][0]["problems"][0]["events"]
    assert ", ".join(map(str, sorted(events))) in page.text
    # Once in its own order, once among what else went on.
    assert page.count("g", "op named") == 2 * 3


def test_only_what_surrounds_the_counterexample_is_drawn_of_a_long_run(stale: Path) -> None:
    assert 3 < Page(stale).count("g", "op") <= 240 + 3


def test_lost_messages_are_crossed_and_carry_their_clock(stale: Path) -> None:
    page = Page(stale)
    messages = [
        attributes
        for _, attributes in page.elements
        if "message" in (attributes.get("class") or "").split()
    ]
    lost = [each for each in messages if "lost" in (each["class"] or "")]
    assert 0 < len(lost) < len(messages)
    assert page.count("path", "cross") == len(lost)
    assert all(json.loads(each["data-clock"] or "")[each["data-from"]] > 0 for each in messages)


def test_outcomes_differ_in_form_and_not_only_in_colour(tmp_path: Path) -> None:
    page = Page(write(runs.write_run(tmp_path / "run", runs.load(30, 60))))
    marks = {
        kind: next(
            attributes["d"]
            for tag, attributes in page.elements
            if tag == "path" and attributes.get("class") == f"marks {kind}"
        )
        for kind in Kind
        if kind is not Kind.INVOKE
    }
    forms = {re.sub(r"M[\d.]+ [\d.]+", "", path or "")[:8] for path in marks.values()}
    assert len(forms) == 3


def test_junit_has_a_failure_for_each_invalid_finding_and_no_pass_for_an_unknown(
    stale: Path,
) -> None:
    suite = ElementTree.parse(stale.parent / "junit.xml").getroot()
    assert suite.attrib | {"tests": "3", "failures": "1", "errors": "1"} == suite.attrib
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {"linearizability": ["failure"], "sessions": [], "availability": ["error"]}


@pytest.mark.parametrize(
    "missing", ["test.json", "history.jsonl", "faults.jsonl", "results.json", "nodes/node-1.log"]
)
def test_a_run_that_left_less_still_has_a_report(tmp_path: Path, missing: str) -> None:
    run = runs.write_run(tmp_path / "run", runs.load(2, 30), logs={"node-1": [{"event": "x"}]})
    (run / missing).unlink()
    page = Page(write(run))
    assert Path(missing).parts[0] in page.text
    ElementTree.parse(run / "junit.xml")


def test_an_empty_directory_is_reported_as_not_judged(tmp_path: Path) -> None:
    assert "not judged" in Page(write(tmp_path)).text
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert suite.get("errors") == "1"


def test_a_history_torn_in_its_last_line_keeps_the_lines_before(tmp_path: Path) -> None:
    run = runs.write_run(tmp_path / "run", runs.load(2, 30))
    with (run / "history.jsonl").open("a") as file:
        file.write('{"time":')
    page = Page(write(run))
    assert "torn at line 121" in page.text
    assert "60 of 60 operations" in page.text


def test_an_operation_without_an_answer_is_in_the_timeline(tmp_path: Path) -> None:
    events = runs.in_order(runs.operation(1, 5, 9, ("write", "k", "v"), "v"))
    run = runs.write_run(
        tmp_path / "run", [*events, *runs.operation(2, 20, 1, ("read", "k", None))[:1]]
    )
    assert "no answer before the run ended" in Page(write(run)).text


def test_a_report_of_a_long_run_is_small(tmp_path: Path) -> None:
    """Its size goes with the area of its pictures and not with the operations."""
    sizes = [
        write(runs.write_run(tmp_path / str(rate), runs.load(30, rate), logs=runs.logs(range(60))))
        .stat()
        .st_size
        for rate in (60, 600)
    ]
    assert sizes[1] < 1.4 * sizes[0] < 1_000_000


def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    run = runs.append_cycle(tmp_path / "run")
    assert write(run).read_bytes() == write(run).read_bytes()
