"""``python -m benches.codec.measure``: every ratio in a table, and the figures behind it.

The two sides of a case take turns in short rounds, so that other load on the machine hits both.
A ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benches.codec.cases import Case, cases

RESULTS = Path(__file__).parents[1] / "results"
ROUNDS = 21
ROUND = 0.004
"""Seconds that each side gets in a round."""


@dataclass(frozen=True)
class Figure:
    """Nanoseconds for each piece of work, by round."""

    case: Case
    native: list[float]
    peer: list[float]

    @property
    def ratio(self) -> float:
        pairs = zip(self.native, self.peer, strict=True)
        return statistics.median(peer / native for native, peer in pairs)


def measure(case: Case, rounds: int = ROUNDS) -> Figure:
    case.check()
    native, peer = timer(case.native), timer(case.peer)
    figure = Figure(case, [], [])
    sides = ((native, repetitions(native), figure.native), (peer, repetitions(peer), figure.peer))
    for _ in range(rounds):
        for side, number, times in sides:
            times.append(side.timeit(number) / number / case.size * 1e9)
    return figure


def timer(work: Callable[[], Any]) -> timeit.Timer:
    """Without the cost of a `partial`, which is a good part of what the shortest calls cost."""
    if not isinstance(work, partial):
        return timeit.Timer("work()", globals={"work": work})
    names = [f"argument_{number}" for number in range(len(work.args))]
    variables = dict(zip(names, work.args, strict=True), work=work.func)
    return timeit.Timer(f"work({', '.join(names)})", globals=variables)


def repetitions(side: timeit.Timer) -> int:
    number = 1
    while (seconds := side.timeit(number)) < ROUND / 4:
        number *= 4
    return max(1, round(number * ROUND / seconds))


def table(figures: list[Figure]) -> str:
    rows = [("", "native", "peer", "", "ratio", "promised")]
    for figure in figures:
        case = figure.case
        rows.append(
            (
                case.name,
                f"{statistics.median(figure.native):.0f} ns",
                f"{statistics.median(figure.peer):.0f} ns",
                case.peer_name,
                f"{figure.ratio:.1f}x",
                f"{case.target:g}x" if case.target else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, 3)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def facts() -> dict[str, str]:
    packages = ("aioquic", "pylsqpack")
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if os.name == "posix" else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "command": "python -m benches.codec.measure",
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "cpu": models[0] if models else platform.processor(),
        **{package: version(package) for package in packages},
    }


def main() -> None:
    figures = []
    for number, case in enumerate(cases(), 1):
        print(f"\r{number} {case.name}".ljust(60), end="", file=sys.stderr, flush=True)
        figures.append(measure(case))
    print("\r".ljust(60), end="\r", file=sys.stderr)
    text = table(figures)
    print(text)
    raw = {
        "facts": facts(),
        "unit": "ns, one number for each round",
        "figures": [
            {
                "case": figure.case.name,
                "peer": figure.case.peer_name,
                "ratio": round(figure.ratio, 2),
                "native_ns": [round(value, 1) for value in figure.native],
                "peer_ns": [round(value, 1) for value in figure.peer],
            }
            for figure in figures
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "codec-python.json").write_text(json.dumps(raw, indent=1) + "\n", "utf-8")
    (RESULTS / "codec-python.txt").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
