"""``python -m benches.ratio.run``: is this library slower than it was?

CPU time of client and server for an operation, divided by that of a fixed piece of work of its
kind (yardstick.py), both in this run and in turns: a busy or a slower machine moves both alike,
which wall time on a busy machine would not. A ratio that is certainly more than `ALLOWED` times
the recorded one, by how far the turns are apart, in every pass, is a failure: a quiet machine tells
of smaller losses than a busy one. ``--record`` writes ``benches/results/ratios.json``. What CPU
time does not show, such as a timer that is late, the peers benchmark does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benches.peers import contenders
from benches.peers import run as peers
from benches.peers.process import cpu_ns
from benches.ratio.yardstick import Yardstick

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
RECORDED = HERE.parent / "results/ratios.json"
SUBJECT = "native, uvloop"
ALLOWED = 1.15
ELSEWHERE = 1.5
"""Allowed where processor, Python or Rust are not the recorded: there the ratio is another."""
PASSES = 3
"""What is lost is lost in each of them, or a busy machine would be told of losses."""
ALTERNATIONS, SECONDS = 21, 25
"""Turns of a pass; on a busy machine it ends after these seconds with fewer."""
COUNTS = {
    "requests": 100,
    "requests at once": 1000,
    "upload": 32,
    "datagrams": 100,
}
"""Operations in one turn: some hundredths of a second of CPU. Those that wait for each other are
few: on a busy machine each wait is long."""
ALONE = ("requests at once", "upload")
"""They rarely wait, so that their yardstick is the one without pauses."""

Turns = list[tuple[float, float]]
"""CPU time of an operation (µs) and of the yardstick (ms), turn by turn."""


class Side:
    """A server and a client of one contender, both waiting."""

    def __init__(self, server: subprocess.Popen[bytes], worker: subprocess.Popen[str]) -> None:
        self.server, self.worker = server, worker

    def expect(self, wanted: str) -> None:
        assert self.worker.stdout is not None
        if (line := self.worker.stdout.readline().strip()) != wanted:
            raise RuntimeError(f"the worker says {line!r} and not {wanted!r}")

    def microseconds(self, workload: str, count: int) -> float:
        """CPU time of both for each operation."""
        assert self.worker.stdin is not None
        pids = (self.server.pid, self.worker.pid)
        before = sum(map(cpu_ns, pids))
        self.worker.stdin.write(f"{workload} {count}\n")
        self.worker.stdin.flush()
        self.expect("done")
        return (sum(map(cpu_ns, pids)) - before) / count / 1e3


@contextlib.contextmanager
def side(contender: contenders.Contender, pair: tuple[Path, Path]) -> Iterator[Side]:
    port = random.randint(20_000, 32_000)
    environment = peers.environment(contender, "rr") | {"PYTHONPATH": str(PEERS)}
    python, _, api = contender.client
    server = subprocess.Popen(
        [*contender.server, str(port), *map(str, pair)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    worker = None
    try:
        peers.wait_for_udp_port(port, server)
        worker = subprocess.Popen(
            [python, str(HERE / "worker.py"), api, str(port)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        both = Side(server, worker)
        both.expect("ready")
        yield both
    finally:
        for process in filter(None, (worker, server)):
            process.send_signal(signal.SIGKILL)
            process.wait()


def measure(workloads: list[str], pair: tuple[Path, Path]) -> dict[str, Turns]:
    (subject,) = (each for each in contenders.contenders() if each.name == SUBJECT)
    with side(subject, pair) as ours, Yardstick() as yardstick:

        def turn(workload: str) -> tuple[float, float]:
            measured = yardstick.alone if workload in ALONE else yardstick.in_turns
            return ours.microseconds(workload, COUNTS[workload]), measured()

        for workload in workloads:  # what runs for the first time does other things too
            turn(workload)
        turns: dict[str, Turns] = {workload: [] for workload in workloads}
        end = time.monotonic() + SECONDS
        for _ in range(ALTERNATIONS):
            for workload, taken in turns.items():
                taken.append(turn(workload))
            if time.monotonic() > end:
                break
        return turns


class Ratio(NamedTuple):
    """Ours by the yardstick."""

    middle: float
    """Of the medians: single turns disturb each other."""
    least: float
    """What it is at least, by how far the turns are apart: 19 of 20 such passes give more."""


def ratio(taken: Turns) -> Ratio:
    def of_medians(turns: Turns) -> float:
        ours, yardstick = zip(*turns, strict=True)
        return statistics.median(ours) / statistics.median(yardstick)

    chance = random.Random(0)
    others = sorted(of_medians(chance.choices(taken, k=len(taken))) for _ in range(1000))
    return Ratio(of_medians(taken), others[50])


def surroundings() -> dict[str, Any]:
    # Also the compiler: the profile that the extension is built by is for one.
    rust = subprocess.check_output(["rustc", "--version"], text=True).split()[1]
    python = ".".join(platform.python_version_tuple()[:2])
    return {"cpu": peers.machine()["cpu"], "python": python, "rust": rust}


def losses(
    measured: dict[str, Ratio], recorded: dict[str, float], allowed: float
) -> dict[str, float]:
    """How many times the recorded ratio each is that is certainly above what is allowed."""
    return {
        workload: found.middle / recorded[workload]
        for workload, found in measured.items()
        if found.least > recorded[workload] * allowed
    }


def check(
    measure_again: Callable[[list[str]], dict[str, Ratio]],
    recorded: dict[str, float],
    allowed: float,
) -> dict[str, Ratio]:
    """The ratio of each workload: the best of the passes for which it looked lost."""
    best: dict[str, Ratio] = {}
    suspects = list(recorded)
    for _ in range(PASSES):
        for workload, found in measure_again(suspects).items():
            best[workload] = min(found, best.get(workload, found), key=lambda each: each.least)
        suspects = list(losses(best, recorded, allowed))
        if not suspects:
            break
    return best


def record(measure_again: Callable[[list[str]], dict[str, Ratio]]) -> dict[str, float]:
    passes = [measure_again(list(COUNTS)) for _ in range(PASSES)]
    return {each: statistics.median(one[each].middle for one in passes) for each in COUNTS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write what is measured as the norm")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends as well
    with tempfile.TemporaryDirectory() as folder:
        pair = peers.certificate(Path(folder))

        def measure_again(workloads: list[str]) -> dict[str, Ratio]:
            turns = measure(workloads, pair)
            return {workload: ratio(taken) for workload, taken in turns.items()}

        if given.record:
            data = {"surroundings": surroundings(), "ratios": record(measure_again)}
            RECORDED.write_text(json.dumps(data, indent=1) + "\n")
            print(RECORDED.read_text())
            return 0
        data = json.loads(RECORDED.read_text())
        is_same = data["surroundings"] == surroundings()
        allowed = ALLOWED if is_same else ELSEWHERE
        measured = check(measure_again, data["ratios"], allowed)
    if not is_same:
        print(f"Recorded elsewhere, so {allowed:g} times are allowed: {data['surroundings']}")
    lost = losses(measured, data["ratios"], allowed)
    print(f"CPU time for each operation, {SUBJECT}: µs for each ms of the yardstick")
    for workload, found in measured.items():
        verdict = f"  LOST: {lost[workload]:.2f} times" if workload in lost else ""
        print(
            f"  {workload:18} {found.middle:.2f}, at least {found.least:.2f};"
            f"  recorded {data['ratios'][workload]:.2f}{verdict}"
        )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
