"""``python benches/serializer/run.py``: the serializers against those of PyPI 0.8.1.

Both run in the same Python with the same msgpack, 0.8.1 in an environment of its
own under `.cache/bench`. The contenders alternate; each figure is the best of all rounds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")
ENVIRONMENT = ROOT / ".cache/bench/serializer-0.8.1"
RESULTS = ROOT / "benches/results/serializer.json"
OURS, THEIRS = "native", "PyPI 0.8.1"


def environment() -> Path:
    python = ENVIRONMENT / "bin/python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        same = f"msgpack=={importlib.metadata.version('msgpack')}"
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "pywebtransport==0.8.1", same], check=True)
        ready.touch()
    return python


def measure(python: Path, source: Path | None, budget: float) -> dict[str, float]:
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if source is not None:
        variables["PYTHONPATH"] = str(source)
    command = [str(python), str(WORKER), str(budget)]
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=0.2, help="seconds per figure and round")
    arguments = parser.parse_args()
    theirs = environment()
    best: dict[str, dict[str, float]] = {OURS: {}, THEIRS: {}}
    for _ in range(arguments.rounds):
        for name, python, source in (
            (OURS, Path(sys.executable), ROOT / "python"),
            (THEIRS, theirs, None),
        ):
            for workload, figure in measure(python, source, arguments.budget).items():
                best[name][workload] = min(figure, best[name].get(workload, figure))
    print("| workload | 0.8.1, µs | ours, µs | times as fast |\n|---|--:|--:|--:|")
    for workload, ours in best[OURS].items():
        other = best[THEIRS][workload]
        print(f"| {workload} | {other:.2f} | {ours:.2f} | {other / ours:.2f} |")
    RESULTS.parent.mkdir(exist_ok=True)
    facts = {"python": platform.python_version(), "machine": platform.machine()}
    RESULTS.write_text(json.dumps({"facts": facts, "microseconds": best}, indent=1) + "\n")


if __name__ == "__main__":
    main()
