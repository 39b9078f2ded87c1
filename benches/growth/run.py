"""``python -m benches.growth.run``: what one more costs when there are many.

Sessions on one connection, connections, and streams one after another, in a fresh server and client
for each case and engine. Writes ``benches/results/growth.json``, ``docs/reference/growth.md`` and
its plots.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benches.growth import report
from benches.peers.run import machine, wait_for_udp_port
from pywebtransport.utils import generate_self_signed_cert

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benches/results/growth.json"
SIZES = {
    "sessions": [100, 300, 1_000, 3_000, 10_000],
    "connections": [50, 150, 500, 1_500, 5_000],
    "streams": [1_000, 3_000, 10_000, 30_000, 100_000],
}
SHARE = {"native": 1, "aioquic": 10}
"""The largest size is divided by it."""
TIMEOUT = 1_500


def measure(engine: str, case: str, sizes: list[int], files: tuple[str, str]) -> Any:
    port = random.randint(20_000, 32_000)
    environment = os.environ | {"PYWEBTRANSPORT_ENGINE": engine}
    server = subprocess.Popen(
        [sys.executable, "-m", "benches.growth.server", str(port), *files],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        wait_for_udp_port(port, server)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benches.growth.client"),
                *(str(port), str(server.pid), case, json.dumps(sizes)),
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            timeout=TIMEOUT,
            check=True,
        )
        return json.loads(done.stdout)
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def middle(rounds: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """The median of each figure."""
    return [
        {key: statistics.median(entry[key] for entry in entries) for key in entries[0]}
        for entries in zip(*rounds, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engine", action="append", choices=SHARE)
    parser.add_argument("--case", action="append", choices=SIZES)
    parser.add_argument("--divide", type=int, default=1, help="all sizes by this, to try")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the server ends as well
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = generate_self_signed_cert(hostname="localhost", output_dir=folder)
        for engine in given.engine or SHARE:
            for case in given.case or SIZES:
                largest = SIZES[case][-1] // SHARE[engine]
                sizes = [size // given.divide for size in SIZES[case] if size <= largest]
                begin = time.monotonic()
                rounds = [measure(engine, case, sizes, files) for _ in range(given.rounds)]
                figures.setdefault(case, {})[engine] = middle(rounds)
                print(f"{engine} {case}: {time.monotonic() - begin:.0f} s", flush=True)
                for entry in figures[case][engine]:
                    print("  ", {key: round(value, 1) for key, value in entry.items()}, flush=True)
    command = " ".join(["python -m benches.growth.run", *sys.argv[1:]])
    data = {"command": command, "machine": machine(), "figures": figures}
    if given.engine or given.case or given.divide > 1:
        return  # nothing whole
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    report.write(data, ROOT / "docs/reference")


if __name__ == "__main__":
    main()
