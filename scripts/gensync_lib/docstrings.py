"""Turns docstrings of the asynchronous client into those of the synchronous one."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

LINE_LENGTH = 100
QUOTES = '"""'

IN_CODE = (
    (r"\basync (with|for|def)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bconnect(?=\(|$)", "connect_sync"),
    (r"\bfrom raftkv\.recipes import\b", "from raftkv.recipes.sync import"),
    (r"\basyncio\.sleep\b", "time.sleep"),
)
IN_PROSE = (
    (r"\btask\b", "thread"),
    (r"\btasks\b", "threads"),
    (r"\bTasks\b", "Threads"),
    (
        r"\bIt runs on the client's loop\.",
        "It runs on raftkv's own thread, so it must be quick and may not call the client.",
    ),
)


class Docstrings:
    """Turns what is said of the asynchronous client into what holds for the synchronous one."""

    def __init__(self, twins: Mapping[str, str]) -> None:
        names = "|".join(twins)
        self._twin_name = re.compile(rf"\b({names})\b(?! ?=)")
        self._twins = twins

    def of(
        self, text: str, otherwise: Mapping[str, str], without: Sequence[str], used: set[str]
    ) -> list[str]:
        """The paragraphs: each a line of prose, or lines of code or of a list."""
        paragraphs = []
        for paragraph in text.split("\n\n"):
            if any(paragraph.startswith(f"`{name}`") for name in without):
                continue
            if paragraph.startswith("    "):
                paragraphs.append(self._code(paragraph))
                continue
            items = re.split(r"\n(?=- )", paragraph)
            lines = [self._prose(re.sub(r"\s+", " ", item)) for item in items]
            for wanted, said in otherwise.items():
                if any(wanted in line for line in lines):
                    used.add(wanted)
                    lines = [line.replace(wanted, said).strip() for line in lines]
            paragraphs.append("\n".join(line for line in lines if line))
        return [paragraph for paragraph in paragraphs if paragraph]

    def _prose(self, text: str) -> str:
        parts = re.split(r"(`[^`]*`)", text)
        for position, part in enumerate(parts):
            parts[position] = self._code(part) if part.startswith("`") else part
        text = "".join(parts)
        for pattern, said in IN_PROSE:
            text = re.sub(pattern, said, text)
        return text

    def _code(self, text: str) -> str:
        quote = "`" if text.startswith("`") else ""
        text = text.strip("`") if quote else text
        for pattern, said in IN_CODE:
            text = re.sub(pattern, said, text)
        text = self._twin_name.sub(lambda found: self._twins[found[1]], text)
        return f"{quote}{text}{quote}"


def quoted(paragraphs: Sequence[str], indent: int) -> str:
    """The source of a docstring, filled to the length of a line."""
    width = LINE_LENGTH - indent
    lines: list[str] = []
    for number, paragraph in enumerate(paragraphs):
        paragraph = paragraph.replace("\\", "\\\\")
        if number:
            lines.append("")
        if paragraph.startswith("    "):
            lines += paragraph.split("\n")
            continue
        for item in paragraph.split("\n"):
            hanging = "  " if item.startswith("- ") else ""
            start = QUOTES if not lines else ""
            lines += _wrapped(start + item, width, hanging)
    if len(lines) == 1 and len(lines[0]) + len(QUOTES) > width:
        lines = _wrapped(lines[0], width - len(QUOTES), "")
    if len(lines) > 1:
        lines.append(QUOTES)
    else:
        lines[0] += QUOTES
    return "\n".join(lines)


def _wrapped(text: str, width: int, hanging: str) -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
