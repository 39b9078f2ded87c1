"""Figures as one SVG, readable on light and on dark ground, without any library."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from pywebtransport.cli.measure.workloads import Figures
from pywebtransport.cli.progress import size_text

__all__ = ["milliseconds", "picture"]

WIDTH = 760
LEFT, BARS, RIGHT = 160, 400, 190
ROW, HEAD, MARGIN = 26, 44, 20
BAR = 14
STYLE = """
svg{--ink:#1b1f24;--soft:#59636e;--grid:#d1d9e0;--ground:#ffffff;--bar:#2f6fde;--far:#a9c6f7}
@media(prefers-color-scheme:dark){svg{--ink:#f0f6fc;--soft:#9198a1;--grid:#3d444d;
--ground:#0d1117;--bar:#5b9bff;--far:#274a86}}
text{font:13px system-ui,sans-serif;fill:var(--ink)}
.title{font-size:16px;font-weight:600}.head{font-weight:600}.soft{fill:var(--soft)}
"""


def picture(all_figures: list[Figures], title: str, subtitle: str) -> str:
    """Throughput, rates, and times from the median to the 99th percentile."""
    done = [figures for figures in all_figures if not figures.fault]
    parts: list[str] = []
    y = MARGIN + 16
    parts.append(_text(MARGIN, y, title, "title"))
    y += 20
    parts.append(_text(MARGIN, y, subtitle, "soft"))
    sections: list[tuple[str, list[Figures], Callable[[list[Figures], int], list[str]]]] = [
        ("Throughput", [f for f in done if f.bytes], _throughput),
        ("In a second", [f for f in done if f.times], _rates),
        ("Time of each: median, to the 99th percentile", [f for f in done if f.times], _times),
    ]
    for heading, rows, draw in sections:
        if not rows:
            continue
        y += HEAD
        parts.append(_text(MARGIN, y, heading, "head"))
        parts += draw(rows, y + 10)
        y += 10 + ROW * len(rows)
    height = y + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="var(--ground)"/>{"".join(parts)}</svg>\n'
    )


def milliseconds(seconds: float) -> str:
    """For people: ``0.42 ms``."""
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"


def _throughput(rows: list[Figures], top: int) -> list[str]:
    most = max(figures.throughput for figures in rows)
    return [
        part
        for index, figures in enumerate(rows)
        for part in _row(
            top + ROW * index,
            figures.name,
            [(0, figures.throughput / most, "bar")],
            f"{size_text(figures.throughput)}/s",
        )
    ]


def _rates(rows: list[Figures], top: int) -> list[str]:
    most = max(figures.rate for figures in rows)
    parts = []
    for index, figures in enumerate(rows):
        value = f"{figures.rate:,.0f}"
        if figures.loss:
            value += f", {figures.loss:.1%} lost"
        bars = [(0.0, figures.rate / most, "bar")]
        parts += _row(top + ROW * index, figures.name, bars, value)
    return parts


def _times(rows: list[Figures], top: int) -> list[str]:
    middle = [figures.percentile(0.5) or 0.0 for figures in rows]
    late = [figures.percentile(0.99) or 0.0 for figures in rows]
    most = max(late) or 1.0
    parts = []
    for index, figures in enumerate(rows):
        bars = [
            (middle[index] / most, late[index] / most, "far"),
            (0.0, middle[index] / most, "bar"),
        ]
        value = f"{milliseconds(middle[index])}, {milliseconds(late[index])}"
        parts += _row(top + ROW * index, figures.name, bars, value)
    return parts


def _row(y: int, name: str, bars: list[tuple[float, float, str]], value: str) -> list[str]:
    middle = y + ROW / 2
    parts = [
        _text(MARGIN, middle + 5, name),
        f'<line x1="{LEFT}" x2="{LEFT + BARS}" y1="{middle}" y2="{middle}" stroke="var(--grid)"/>',
    ]
    for start, end, colour in bars:
        width = max(1.0, (end - start) * BARS)
        parts.append(
            f'<rect x="{LEFT + start * BARS:.1f}" y="{middle - BAR / 2}" width="{width:.1f}" '
            f'height="{BAR}" rx="2" fill="var(--{colour})"/>'
        )
    parts.append(_text(LEFT + BARS + 10, middle + 5, value))
    return parts


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{shown}>{escape(text)}</text>'
