"""The page and the plots of one run: ``python -m benches.growth.report`` makes them anew."""

from __future__ import annotations

import json
from html import escape
from math import floor, log10
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TITLES = {
    "sessions": "Sessions on one connection",
    "connections": "Connections",
    "streams": "Streams of 64 bytes and back, one after another",
}
SERIES = (
    ("server_us", "server, each", "#2a7f62"),
    ("client_us", "client, each", "#2f6fde"),
    ("request_us", "a request on one of them, both ends", "#c0562f"),
)
MEMORY = (("server_KB", "server, each", "#2a7f62"), ("client_KB", "client, each", "#2f6fde"))
WIDTH, HEIGHT = 360, 200
LEFT, TOP, BETWEEN = 60, 66, 110

Entry = dict[str, float]


def per_item(entries: list[Entry]) -> list[Entry]:
    """The memory of all, divided by how many there are."""
    return [
        entry | {key: entry[key] / entry["size"] for key in ("server_KB", "client_KB")}
        for entry in entries
    ]


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(words)}</text>"


def round_step(most: float) -> float:
    """A quarter of an axis that reaches over ``most``: a round number."""
    wanted = max(most, 1e-3) / 4
    power = 10 ** floor(log10(wanted))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= wanted)


def panel(
    left: float, unit: str, entries: list[Entry], series: tuple[tuple[str, str, str], ...]
) -> list[str]:
    """Lines over a logarithmic count; the other axis begins at zero, so that level is level."""
    sizes = [entry["size"] for entry in entries]
    span = log10(sizes[-1] / sizes[0]) or 1
    step = round_step(max(max(entry[key] for key, _, _ in series) for entry in entries))
    top = 4 * step

    def x(size: float) -> float:
        return left + WIDTH * log10(size / sizes[0]) / span

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - max(value, 0) / top)

    bottom = TOP + HEIGHT
    parts = [text(left - 50, TOP - 14, unit)]
    for value in (step * count for count in range(5)):
        parts += [
            f'<line x1="{left}" x2="{left + WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#d1d9e0"/>',
            text(left - 6, y(value) + 4, f"{value:,g}", "end"),
        ]
    parts += [text(x(size), bottom + 18, f"{size:,.0f}", "middle") for size in sizes]
    for index, (key, label, colour) in enumerate(series):
        points = [(x(entry["size"]), y(entry[key])) for entry in entries]
        way = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        line = bottom + 40 + 18 * index
        parts.append(f'<rect x="{left}" y="{line - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(text(left + 18, line, label))
    return parts


def plot(title: str, entries: list[Entry]) -> str:
    width, height = 2 * WIDTH + LEFT + BETWEEN + 30, TOP + HEIGHT + 40 + 18 * len(SERIES)
    entries = per_item(entries)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        text(10, 24, title, size=15),
        *panel(LEFT, "CPU time, µs", entries, SERIES),
        *panel(LEFT + WIDTH + BETWEEN, "memory, KB", entries, MEMORY),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def table(entries: list[Entry]) -> str:
    lines = [
        "| count | server, µs each | client, µs each | a request on one, µs, both ends |"
        " server, KB each | client, KB each |",
        "|---|---|---|---|---|---|",
    ]
    for entry in per_item(entries):
        cells = [f"{entry['size']:,.0f}"]
        cells += [f"{entry[key]:,.0f}" for key in ("server_us", "client_us", "request_us")]
        cells += [f"{entry[key]:,.1f}" for key in ("server_KB", "client_KB")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(data: dict[str, Any]) -> str:
    machine = data["machine"]
    lines = [
        "# Cost as work grows",
        "",
        "Made by `make bench-growth`; the raw figures are in",
        "[benches/results/growth.json](../../benches/results/growth.json). CPU times are those of",
        "each item since the count before, so a level line is a cost that does not grow. A request",
        "is one of 64 bytes on one of those that are there, picked at random. Memory is that of",
        "all items, divided by their number; what happens once, such as the first buffers of the",
        "allocator, makes the first counts dear.",
        "",
        f"`{data['command']}`; {machine['cores']} cores, {machine['cpu']}, kernel "
        f"{machine['kernel']}; uvloop; client and server in a process each.",
    ]
    for case, engines in data["figures"].items():
        lines += ["", f"## {TITLES[case]}"]
        for engine, entries in engines.items():
            name = file_name(case, engine)
            lines += [
                *("", f"### {TITLES[case]}: {engine}", ""),
                f"![{TITLES[case]}, {engine}: CPU time and memory of each]({name})",
                *("", table(entries)),
            ]
    return "\n".join(lines) + "\n"


def file_name(case: str, engine: str) -> str:
    return f"growth-{case}-{engine}.svg"


def write(data: dict[str, Any], folder: Path) -> None:
    (folder / "growth.md").write_text(page(data))
    for case, engines in data["figures"].items():
        for engine, entries in engines.items():
            drawing = plot(f"{TITLES[case]}: {engine} engine", entries)
            (folder / file_name(case, engine)).write_text(drawing)


if __name__ == "__main__":
    write(json.loads((ROOT / "benches/results/growth.json").read_text()), ROOT / "docs/reference")
