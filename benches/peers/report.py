"""``python benches/peers/report.py RESULTS.json``: the tables and the plot of one run."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from math import log10
from pathlib import Path
from typing import Any

CEILING = "quinn, no Python"
BASELINE = "PyPI 0.21.1, uvloop"
SUBJECT = "native, uvloop"
FIELD = ("wtransport 0.7", "webtransport-go 0.13", CEILING)
"""Not Python: what its languages reach."""
OWN = (
    ("native, asyncio", SUBJECT, "0.7 of uvloop's figure"),
    ("aioquic engine, uvloop", "PyPI 0.8.1, uvloop", "no workload slower"),
)
"""Ratios beside the main one, with what is promised for each."""


@dataclass(frozen=True)
class Goal:
    """What is promised for the native engine on uvloop."""

    times: float | None = None
    """Better than the baseline: more for rates, less for times and memory."""
    at_most: float | None = None
    """The figure itself."""

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.times:g}x" if self.times else ""


GOALS = {
    "upload_MBs": Goal(times=8),
    "download_MBs": Goal(times=8),
    "rr_p50_ms": Goal(times=10),
    "rr32_s": Goal(times=16),
    "connections_s": Goal(times=4),
    "streams1000_MBs": Goal(times=8),
    "datagrams_s": Goal(times=120),
    "datagram_batch_s": Goal(times=200),
    "datagram_loss": Goal(at_most=0.01),
    "datagram_p50_ms": Goal(times=4),
    "fan_out_s": Goal(times=6),
    "idle_KB": Goal(at_most=30),
}
CEILING_GOAL = 1.3
"""Of quinn without Python, for upload and download."""


@dataclass(frozen=True)
class Row:
    """One figure of the tables."""

    key: str
    workload: str
    label: str
    higher_is_better: bool = True
    baseline_key: str = ""
    """The baseline's figure to compare with, where it has none of this name."""

    @property
    def goal(self) -> Goal:
        return GOALS.get(self.key, Goal())


ROWS = [
    Row("upload_MBs", "upload", "upload, one stream, MB/s"),
    Row("download_MBs", "download", "download, one stream, MB/s"),
    Row("rr_p50_ms", "rr", "64 B request-response, new stream, p50 ms", False),
    Row("rr_p99_ms", "rr", "the same, p99 ms", False),
    Row("rr_upload_p99_ms", "rr_beside_upload", "the same beside an upload, p99 ms", False),
    Row("rr_datagrams_p99_ms", "rr_beside_datagrams", "the same beside datagrams, p99 ms", False),
    Row("rr32_s", "rr32", "64 B request-response, 32 at once, per second"),
    Row("connections_s", "handshake", "connections per second, sequential"),
    Row("streams1000_MBs", "streams1000", "1,000 streams of 64 KiB at once, MB/s"),
    Row("datagrams_s", "datagram_rate", "64 B datagrams delivered per second"),
    Row("datagram_loss", "datagram_rate", "datagram loss, share", False),
    Row(
        "datagram_batch_s",
        "datagram_batch",
        "64 B datagrams delivered per second, 128 a call",
        baseline_key="datagrams_s",
    ),
    Row("datagram_p50_ms", "datagram_rtt", "datagram echo, p50 ms", False),
    Row("fan_out_s", "fan_out", "fan-out to 100 clients, messages per second"),
    Row("idle_KB", "idle", "server memory per idle connection, KB", False),
]

Figures = dict[str, dict[str, list[float]]]


def samples(data: dict[str, Any]) -> Figures:
    """contender -> key -> figures, in the order of the rounds."""
    found: Figures = {}
    for run in data["runs"]:
        for key, value in run.items():
            if isinstance(value, int | float) and key not in ("round", "seconds"):
                found.setdefault(run["contender"], {}).setdefault(key, []).append(value)
    return found


def number(value: float) -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    middle = statistics.median(values)
    digits = 0 if middle >= 1000 else 1 if middle >= 10 else 3
    low, high = (f"{each:,.{digits}f}" for each in (min(values), max(values)))
    return f"{number(middle)} ({low}-{high})"


def median(figures: Figures, contender: str, key: str) -> float | None:
    values = figures.get(contender, {}).get(key)
    return statistics.median(values) if values else None


def times_better(row: Row, figures: Figures, subject: str, baseline: str) -> float | None:
    """How many times better ``subject`` is, by the medians."""
    ours = median(figures, subject, row.key)
    theirs = median(figures, baseline, row.key)
    if theirs is None and row.baseline_key:
        theirs = median(figures, baseline, row.baseline_key)
    if not ours or not theirs:
        return None
    return ours / theirs if row.higher_is_better else theirs / ours


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}x" if value >= 9.95 else f"{value:.2f}x"


class Notes:
    """Why a figure is missing: numbered in the order in which the tables ask."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.reasons: dict[tuple[str, str], str] = {}
        for run in data["runs"]:
            for key, reason in run.items():
                workload, _, kind = key.rpartition("_")
                if kind in ("cannot", "failed"):
                    text = reason if kind == "cannot" else f"failed: {reason}"
                    self.reasons.setdefault((run["contender"], workload), text)
        self.lines: list[str] = []

    def missing(self, contender: str, row: Row) -> str:
        reason = self.reasons.get((contender, row.workload))
        if reason is None:
            return "-"
        line = f"{contender}: {reason}" if reason.startswith("failed") else reason
        if line not in self.lines:
            self.lines.append(line)
        return f"- [{self.lines.index(line) + 1}]"

    def __str__(self) -> str:
        return "\n".join(f"{n}. {line.strip()}" for n, line in enumerate(self.lines, 1))


def grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head), *map(list, rows)]
    lines = ["| " + " | ".join(each) + " |" for each in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def shown(figures: Figures, names: Iterable[str]) -> list[Row]:
    return [row for row in ROWS if any(row.key in figures.get(name, {}) for name in names)]


def beside_baseline(figures: Figures, notes: Notes) -> str:
    def line(row: Row) -> list[str]:
        ratio = times(times_better(row, figures, SUBJECT, BASELINE))
        cells = [
            spread(values) if (values := figures[name].get(row.key)) else notes.missing(name, row)
            for name in (SUBJECT, BASELINE)
        ]
        return [row.label, str(row.goal), ratio, *cells]

    rows = map(line, shown(figures, (SUBJECT, BASELINE)))
    return grid(["workload", "promised", "times better", SUBJECT, BASELINE], rows)


def all_medians(figures: Figures, names: list[str], notes: Notes) -> str:
    def cell(name: str, row: Row) -> str:
        value = median(figures, name, row.key)
        return notes.missing(name, row) if value is None else number(value)

    rows = ([row.label, *(cell(name, row) for name in names)] for row in shown(figures, names))
    return grid(["workload", *names], rows)


def field_table(figures: Figures, notes: Notes) -> str:
    names = [SUBJECT, *(name for name in FIELD if name in figures)]

    def line(row: Row) -> list[str]:
        values = {name: median(figures, name, row.key) for name in names}
        ratios = [times_better(row, figures, SUBJECT, name) for name in names[1:]]
        cells = [
            notes.missing(name, row) if value is None else number(value)
            for name, value in values.items()
        ]
        return [row.label, *cells, *map(times, ratios)]

    heads = [*names, *(f"times {name}" for name in names[1:])]
    # What nobody there has is no row.
    rows = [row for row in shown(figures, names) if any(row.key in figures[n] for n in names[1:])]
    return grid(["workload", *heads], map(line, rows))


def own_table(figures: Figures, pairs: list[tuple[str, str, str]]) -> str:
    heads = [f"{subject} / {baseline}: {promise}" for subject, baseline, promise in pairs]
    rows = [
        [row.label, *(times(times_better(row, figures, *pair[:2])) for pair in pairs)]
        for row in shown(figures, [pair[0] for pair in pairs])
    ]
    return grid(["workload", *heads], rows)


def failures(data: dict[str, Any]) -> list[str]:
    return [
        f"- round {run['round']}, {run['contender']}: {key[:-7]}: {value}"
        for run in data["runs"]
        for key, value in run.items()
        if key.endswith("_failed")
    ]


def tables(data: dict[str, Any]) -> str:
    figures, notes = samples(data), Notes(data)
    python = [name for name in figures if name not in FIELD]
    lines = [
        f"Started {data['started']}; `{data['command']}`; {data['machine']['cores']} cores, "
        f"{data['machine']['cpu']}, kernel {data['machine']['kernel']}. "
        "Medians of alternating runs.",
    ]
    if SUBJECT in figures and BASELINE in figures:
        lines += [
            *("", f"## {SUBJECT}, beside {BASELINE}", ""),
            "The fastest peer in Python. Median (minimum-maximum); ratios are of medians, above 1",
            "where this library is better. A promise without `x` is one of the figure itself.",
            *("", beside_baseline(figures, notes)),
        ]
    lines += ["", "## All in Python", "", all_medians(figures, python, notes)]
    if SUBJECT in figures and any(name in figures for name in FIELD):
        lines += [
            *("", "## The field in Rust and Go", ""),
            "Programs without Python, in their languages' release builds: not peers but what can",
            f"be reached. `{CEILING}` is only streams of the crate that the native engine stands",
            f"on, without HTTP/3; promised is {CEILING_GOAL:g} of its upload and download.",
            *("", field_table(figures, notes)),
        ]
    if pairs := [pair for pair in OWN if pair[0] in figures and pair[1] in figures]:
        lines += ["", "## Loops and engines", "", own_table(figures, pairs)]
    if notes.lines:
        lines += ["", "## What is missing", "", str(notes)]
    if failed := failures(data):
        lines += ["", "Failed runs:", "", *failed]
    return "\n".join(lines) + "\n"


def plot(data: dict[str, Any]) -> str:
    """Horizontal bars: how many times better than the baseline, log scale, promise as a tick."""
    figures = samples(data)
    bars = []
    for row in ROWS:
        got = times_better(row, figures, SUBJECT, BASELINE)
        if got and row.goal.times:
            bars.append((row.label, got, row.goal.times))
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
[benches/peers/client.py](../benches/peers/client.py). How cost grows with sessions, connections and
streams is [measured](reference/growth.md) as well, and what a second process
[brings](howto/workers.md).

![times better, by workload](peers.svg)

"""
END = """
`webtransport-py` (PyPI, on ngtcp2) is no contender: its own client and server exchange no bytes
of a stream ([peers](reference/peers.md)). `peregrine` is a server only; the native engine is its
client. What cannot be told how many streams to allow keeps its own number: 100 for
`web-transport-quinn`, 128 and more with use for aioquic and qh3.
"""


def write(results: Path, pages: Path | None = None) -> None:
    """The tables and the plot beside the raw figures, and as a page in ``pages``."""
    data = json.loads(results.read_text())
    text, drawing = tables(data), plot(data)
    results.with_suffix(".md").write_text(text)
    results.with_suffix(".svg").write_text(drawing)
    if pages is not None:
        (pages / "peers.md").write_text(PAGE + text + END)
        (pages / "peers.svg").write_text(drawing)
    print("\n" + text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
