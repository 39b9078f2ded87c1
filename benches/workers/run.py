"""``python -m benches.workers.run``: what a second worker brings, and what it costs.

Several client processes load a server with one process and with two, in turns. The clients run on
the same machine: where that has few cores, read the CPU time per request, and the workload whose
work is done by the server alone. Writes ``benches/results/workers.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pywebtransport.utils import generate_self_signed_cert
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benches/results/workers.json"
WORKLOADS = {
    "echo": ("requests of 64 bytes", "requests"),
    "work": ("requests with 0.5 ms of work each", "requests"),
    "count": ("uploads", "MB"),
}


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def server(workers: int, port: int, files: tuple[str, str]) -> Iterator[int]:
    """A server with so many workers; its process id."""
    command = [sys.executable, "-m", "benches.workers.server", str(port), *files, str(workers)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Ctrl-C or SIGTERM" in line:
                break
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def measure(
    workers: int, workload: str, files: tuple[str, str], clients: int, sessions: int, seconds: float
) -> dict[str, float]:
    port, client = free_port(), [sys.executable, "-m", "benches.workers.client"]
    with server(workers, port, files) as pid:
        loads = [
            subprocess.Popen(
                [*client, str(port), workload, str(sessions)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(clients)
        ]
        for load in loads:
            assert load.stdout is not None and load.stdout.readline() == "ready\n"
        serving = children(pid) if workers > 1 else [pid]
        before, started = [cpu_seconds(each) for each in serving], time.monotonic()
        for load in loads:
            assert load.stdin is not None
            load.stdin.write(f"{seconds}\n")
            load.stdin.flush()
        done = sum(float(load.stdout.readline()) for load in loads if load.stdout is not None)
        elapsed = time.monotonic() - started
        after = [cpu_seconds(each) for each in serving]
        for load in loads:
            load.communicate(timeout=30)
    spent = [late - early for early, late in zip(before, after, strict=True)]
    return {
        "per_second": done / elapsed,
        "cpu_us_each": sum(spent) / done * 1e6,
        "busiest_share": max(spent) / sum(spent),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, default=4, help="client processes")
    parser.add_argument("--sessions", type=int, default=8, help="sessions of each")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = generate_self_signed_cert(hostname="localhost", output_dir=folder)
        for workload in WORKLOADS:
            samples: dict[int, list[dict[str, float]]] = {each: [] for each in given.workers}
            for _ in range(given.rounds):
                for workers, taken in samples.items():
                    taken.append(
                        measure(
                            workers,
                            workload,
                            files,
                            given.clients,
                            given.sessions,
                            given.seconds,
                        )
                    )
            figures[workload] = {
                str(workers): {
                    name: statistics.median(sample[name] for sample in taken) for name in taken[0]
                }
                for workers, taken in samples.items()
            }
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }
    RESULTS.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")
    print(f"{machine['cores']} cores, clients on the same machine; medians of {given.rounds}")
    print("| workload | workers | a second | server CPU each | busiest worker |")
    print("|---|---|---|---|---|")
    for workload, (name, unit) in WORKLOADS.items():
        for workers, row in figures[workload].items():
            print(
                f"| {name} | {workers} | {row['per_second']:,.0f} {unit} |"
                f" {row['cpu_us_each']:,.0f} µs | {row['busiest_share']:.0%} |"
            )


if __name__ == "__main__":
    main()
