"""The files of a report: `report.html`, and the findings as JUnit test cases for a CI's pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from jepsen_lite.report.page import command, facts, page, title
from jepsen_lite.report.record import RunRecord, read
from jepsen_lite.verdicts import Finding, Validity

# What XML 1.0 can't hold even when escaped; a store's values may hold anything.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(directory: Path) -> Path:
    """Write `report.html` and `junit.xml` into a run's directory; returns the former's path."""
    record = read(directory)
    path = directory / "report.html"
    # Values may hold half a surrogate pair, which has no UTF-8 encoding; its number is shown.
    path.write_text(page(record), encoding="utf-8", errors="backslashreplace")
    replay = command(record)
    noted = {**facts(record), **({"command": replay} if replay else {})}
    (directory / "junit.xml").write_bytes(junit(record, title(record), noted))
    return path


def junit(record: RunRecord, suite: str, facts: Mapping[str, str]) -> bytes:
    """One test case for each finding; INVALID is a failure, what proved nothing an error."""
    findings = record.findings or (Finding("judgement", record.validity or Validity.UNKNOWN),)
    failed = sum(each.validity is Validity.INVALID for each in findings)
    passed = sum(each.validity is Validity.VALID for each in findings)
    root = ElementTree.Element(
        "testsuite",
        name=_clean(suite),
        tests=str(len(findings)),
        failures=str(failed),
        errors=str(len(findings) - failed - passed),
        time=f"{record.seconds(record.ended_ns - record.began_ns):.3f}",
    )
    properties = ElementTree.SubElement(root, "properties")
    for name, content in facts.items():
        ElementTree.SubElement(properties, "property", name=_clean(name), value=_clean(content))
    for finding in findings:
        case = ElementTree.SubElement(
            root, "testcase", classname=_clean(suite), name=_clean(finding.checker)
        )
        if finding.validity is not Validity.VALID:
            _complaint(case, finding)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _complaint(case: ElementTree.Element, finding: Finding) -> None:
    texts = [each.text for each in finding.problems]
    element = ElementTree.SubElement(
        case,
        "failure" if finding.validity is Validity.INVALID else "error",
        type=finding.validity.value,
        message=_clean(texts[0].partition("\n")[0] if texts else finding.validity.value),
    )
    element.text = _clean("\n\n".join(texts))


def _clean(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
