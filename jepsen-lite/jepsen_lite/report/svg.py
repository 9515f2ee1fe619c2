"""SVG as text, and the scales of its axes.

Colours are left to the page's style sheet, which follows the reader's dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup, escape

Attribute = str | int | float


class Drawing:
    """One picture. Everything that goes in is escaped."""

    def __init__(self, width: float, height: float, css_class: str, alternative: str) -> None:
        self._parts: list[str] = [
            f'<svg class="{escape(css_class)}" viewBox="0 0 {_number(width)} {_number(height)}"'
            f' role="img" aria-label="{escape(alternative)}">'
        ]

    def add(self, tag: str, text: str = "", tooltip: str = "", **attributes: Attribute) -> None:
        """One element. `class_` is class, `stroke_width` stroke-width."""
        inside = f"<title>{escape(tooltip)}</title>" if tooltip else ""
        self._parts.append(f"{_opening(tag, attributes)}{inside}{escape(text)}</{tag}>")

    def begin(self, tooltip: str = "", **attributes: Attribute) -> None:
        """A group, until `end`."""
        self._parts.append(_opening("g", attributes))
        if tooltip:
            self._parts.append(f"<title>{escape(tooltip)}</title>")

    def end(self) -> None:
        self._parts.append("</g>")

    def markup(self) -> Markup:
        # Each part was escaped when it came in.
        return Markup("".join([*self._parts, "</svg>"]))


def _opening(tag: str, attributes: dict[str, Attribute]) -> str:
    attributes_text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_number(content))}"'
        for name, content in attributes.items()
    )
    return f"<{tag}{attributes_text}>"


def _number(content: Attribute) -> str:
    return f"{content:.1f}".removesuffix(".0") if isinstance(content, float) else str(content)


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels; `logarithmic` needs values above 0. Outside it stays at the edge."""

    low: float
    high: float
    low_px: float
    high_px: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, point = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, point = math.log(low), math.log(high), math.log(point)
        share = (point - low) / (high - low) if high > low else 0.0
        return self.low_px + share * (self.high_px - self.low_px)


def round_ticks(low: float, high: float, count: int) -> Iterator[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) from low to high."""
    if high <= low:
        yield low
        return
    raw = (high - low) / count
    power: float = 10.0 ** math.floor(math.log10(raw))
    step = next(each for each in (power, 2 * power, 5 * power, 10 * power) if each >= raw)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield number * step


def decades(low: float, high: float) -> Iterator[float]:
    """The powers of ten from low to high."""
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        yield 10.0**power
