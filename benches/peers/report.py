"""``python benches/peers/report.py RESULTS.json``: the table and the plot of one run."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

CEILING = "quinn, no Python"
BASELINE = "PyPI 0.21.1, uvloop"
SUBJECT = "native, uvloop"
COMPARISONS = (
    (SUBJECT, BASELINE),
    ("native, asyncio", SUBJECT),
    ("aioquic engine, uvloop", "PyPI 0.8.1, uvloop"),
)
"""Ratios of medians. ``Row.target`` is promised for the first; for the second 0.7 of the figure,
for the third no workload slower."""


@dataclass(frozen=True)
class Row:
    """One figure of the table; ``target`` is the ratio to the baseline that is promised."""

    key: str
    label: str
    higher_is_better: bool
    target: float


ROWS = [
    Row("upload_MBs", "upload, one stream, MB/s", True, 4),
    Row("download_MBs", "download, one stream, MB/s", True, 4),
    Row("rr_p50_ms", "64 B request-response, new stream, p50 ms", False, 0.25),
    Row("rr32_s", "the same, 32 at once, per second", True, 6),
    Row("connections_s", "connections per second, sequential", True, 2.5),
    Row("streams1000_MBs", "1,000 streams of 64 KiB at once, MB/s", True, 4),
    Row("datagrams_s", "64 B datagrams delivered per second", True, 50),
    Row("datagram_loss", "datagram loss, share", False, 0),
    Row("datagram_p50_ms", "datagram echo, p50 ms", False, 0.6),
    Row("fan_out_s", "fan-out to 100 clients, messages per second", True, 6),
    Row("idle_KB", "server memory per idle connection, KB", False, 0.75),
]


def samples(data: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """contender -> key -> figures, in the order of the rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in data["runs"]:
        for key, value in run.items():
            if isinstance(value, int | float) and key != "round":
                found.setdefault(run["contender"], {}).setdefault(key, []).append(value)
    return found


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    digits = 0 if middle >= 1000 else 1 if middle >= 10 else 3
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def ratio(
    row: Row,
    figures: dict[str, dict[str, list[float]]],
    subject: str = SUBJECT,
    baseline: str = BASELINE,
) -> float | None:
    ours = figures.get(subject, {}).get(row.key)
    theirs = figures.get(baseline, {}).get(row.key)
    if not ours or not theirs or not statistics.median(theirs):
        return None
    return statistics.median(ours) / statistics.median(theirs)


def table(data: dict[str, Any]) -> str:
    figures = samples(data)
    names = list(figures)
    compared = [pair for pair in COMPARISONS if all(name in figures for name in pair)]
    lines = [
        f"Started {data['started']}; `{data['command']}`; {data['machine']['cores']} cores, "
        f"{data['machine']['cpu']}, kernel {data['machine']['kernel']}. "
        "Median (minimum-maximum) of alternating runs.",
        "",
        "| workload | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for row in ROWS:
        if not any(row.key in figures[name] for name in names):
            continue
        cells = [cell(figures[name].get(row.key, [])) for name in names]
        lines.append("| " + " | ".join([row.label, *cells]) + " |")
    if compared:
        heads = [f"{subject} / {baseline}" for subject, baseline in compared]
        lines += [
            "",
            "Ratios of the medians. Promised for asyncio beside uvloop: 0.7 of each figure; for",
            "the aioquic engine beside 0.8.1: no workload slower.",
            "",
            "| workload | promised | " + " | ".join(heads) + " |",
            "|---|---|" + "---|" * len(heads),
        ]
    for row in ROWS if compared else ():
        promised = f"{'≥' if row.higher_is_better else '≤'} {row.target:g}" if row.target else ""
        ratios = [ratio(row, figures, *pair) for pair in compared]
        shown = ["-" if each is None else f"{each:.2f}" for each in ratios]
        lines.append("| " + " | ".join([row.label, promised, *shown]) + " |")
    failures = [
        f"- round {run['round']}, {run['contender']}: {key[:-7]}: {value}"
        for run in data["runs"]
        for key, value in run.items()
        if key.endswith("_failed")
    ]
    if failures:
        lines += ["", "Failed runs:", *failures]
    return "\n".join(lines) + "\n"


def plot(data: dict[str, Any]) -> str:
    """Horizontal bars: how many times better than the baseline, log scale, promise as a tick."""
    from math import log10

    figures = samples(data)
    bars = []
    for row in ROWS:
        got = ratio(row, figures)
        if got and row.target:
            better, promised = (
                (got, row.target) if row.higher_is_better else (1 / got, 1 / row.target)
            )
            bars.append((row.label, better, promised))
    left, width, line = 330, 420, 28
    top = max([better for _, better, _ in bars] + [promised for _, _, promised in bars] + [10])

    def x(value: float) -> float:
        return left + width * max(0.0, log10(value)) / log10(top)

    height = 60 + line * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="20" font-size="14">{escape(SUBJECT)}: times better than '
        f"{escape(BASELINE)} (log scale; the tick is the promise)</text>",
    ]
    for index, (label, better, promised) in enumerate(bars):
        y = 36 + line * index
        parts += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y}" width="{max(1.0, x(better) - left):.1f}" height="18" '
            f'fill="{"#2a7f62" if better >= promised else "#c0562f"}"/>',
            f'<line x1="{x(promised):.1f}" x2="{x(promised):.1f}" y1="{y - 3}" y2="{y + 21}" '
            'stroke="#222" stroke-width="2"/>',
            f'<text x="{x(better) + 6:.1f}" y="{y + 14}">{better:.1f}x</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


PAGE = """# Side by side with its peers

Made by `make bench-peers`; the raw figures are in
[benches/results/peers.json](../benches/results/peers.json). What each workload does is in
[benches/peers/client.py](../benches/peers/client.py).

![times better, by workload](peers.svg)

"""


def write(results: Path, pages: Path | None = None) -> None:
    """The table and the plot beside the raw figures, and as a page in ``pages``."""
    data = json.loads(results.read_text())
    text, drawing = table(data), plot(data)
    results.with_suffix(".md").write_text(text)
    results.with_suffix(".svg").write_text(drawing)
    if pages is not None:
        (pages / "peers.md").write_text(PAGE + text)
        (pages / "peers.svg").write_text(drawing)
    print("\n" + text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
