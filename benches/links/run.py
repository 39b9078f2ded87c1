"""``python benches/links/run.py``: uploads and requests over long, lossy links.

Between client and server is ``relay.rs``, which holds every packet for half a round trip and loses
some, chosen by a seed. Links set these figures more than the machine does: over 20 ms a request
takes 20 ms. Writes ``benches/results/links.json`` (every raw figure) and the tables between the
marks of ``docs/howto/links.md``. Takes about seven minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "benches/results/links.json"
PAGE = ROOT / "docs/howto/links.md"
RELAY = ROOT / ".cache/links/relay"
BEGIN, END = "<!-- written by benches/links/run.py -->", "<!-- end -->"

sys.path.insert(0, str(ROOT))  # also when this file is run by its path

from benches.peers import run as peers  # noqa: E402
from benches.peers.contenders import Contender, contenders  # noqa: E402

NAMES = {"native, uvloop": "this library", "PyPI 0.21.1, uvloop": "PyPI 0.21.1"}
ALGORITHMS = ("bbr", "cubic", "reno")
LINKS = [(trip, loss) for trip in (20, 100) for loss in (0, 10, 20)]
"""Round trips in milliseconds, and packets lost of a thousand each way."""
REQUESTS = {20: 300, 100: 100}
GIGABIT = (125_000_000, 5_000_000)
"""Bytes a second, and in the queue."""


def build_relay() -> None:
    RELAY.parent.mkdir(parents=True, exist_ok=True)
    peers.sh("rustc", "-O", "--edition", "2021", "-o", RELAY, HERE / "relay.rs")


def take(
    contender: Contender,
    algorithm: str,
    link: tuple[int, int],
    workload: tuple[str, int],
    files: tuple[Path, Path],
    bottleneck: tuple[int, ...] = (),
) -> dict[str, Any]:
    """One client's figures over a link of its own."""
    port, (trip, loss) = random.randint(20_000, 32_000), link
    environment = peers.environment(contender, workload[0]) | {"CONGESTION": algorithm}
    python, _, api = contender.client
    endpoint = [python, str(HERE / "endpoint.py"), api]
    server = subprocess.Popen([*endpoint, "server", str(port), *files], env=environment)
    relay = None
    try:
        peers.wait_for_udp_port(port, server)
        numbers = (trip / 2, loss, 1, *bottleneck)
        relay = subprocess.Popen(
            [RELAY, f"127.0.0.1:{port}", *map(str, numbers)], stdout=subprocess.PIPE, text=True
        )
        assert relay.stdout is not None
        front = relay.stdout.readline().strip()
        name, number = workload
        client = subprocess.run(
            [*endpoint, "client", front, name, str(number)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if client.returncode or not client.stdout:
            return {"failed": client.stderr.strip().splitlines()[-1:]}
        return dict(json.loads(client.stdout))
    except subprocess.TimeoutExpired:
        return {"failed": "took more than a minute"}
    finally:
        for process in (server, relay):
            if process is not None:
                process.kill()
                process.wait()


def figure(runs: list[dict[str, Any]], key: str, digits: int, **wanted: Any) -> str:
    for run in runs:
        if key in run and all(run[name] == value for name, value in wanted.items()):
            return f"{run[key]:.{digits}f}"
    return "-"


def tables(runs: list[dict[str, Any]], names: list[str]) -> str:
    columns = [(name, algorithm) for name in names for algorithm in ALGORITHMS]
    shown = {"bbr": "BBR", "cubic": "CUBIC", "reno": "NewReno"}
    lines = ["Upload on one stream, MB/s:", ""]
    lines.append("| link | " + " | ".join(f"{n}, {shown[a]}" for n, a in columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    for trip, loss in LINKS:
        cells = [
            figure(runs, "MB_s", 2, contender=n, algorithm=a, trip=trip, loss=loss, streams=1)
            for n, a in columns
        ]
        lines.append(f"| {trip} ms, {loss / 10:g} % lost | " + " | ".join(cells) + " |")
    lines += ["", "A request of 64 bytes on a stream of its own, with CUBIC, ms:", ""]
    lines.append("| link | " + " | ".join(f"{n}, p50 | {n}, p99" for n in names) + " |")
    lines.append("|---|" + "---|---|" * len(names))
    for trip, loss in LINKS:
        cells = [
            figure(runs, key, 1, contender=n, trip=trip, loss=loss, workload="requests")
            for n in names
            for key in ("p50_ms", "p99_ms")
        ]
        lines.append(f"| {trip} ms, {loss / 10:g} % lost | " + " | ".join(cells) + " |")
    lines += ["", "Upload over 1 Gbit/s, 40 ms and a queue of 5 MB, with CUBIC, MB/s:", ""]
    lines.append("| | " + " | ".join(names) + " |")
    lines.append("|---|" + "---|" * len(names))
    for streams in (1, 4):
        cells = [
            figure(runs, "MB_s", 1, contender=n, trip=40, streams=streams, workload="upload")
            for n in names
        ]
        lines.append(f"| {streams} stream{'s' * (streams > 1)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page(data: dict[str, Any]) -> None:
    machine = data["machine"]
    about = f"{data['started'][:10]}, {machine['cores']} cores, {machine['cpu']}, uvloop"
    names = list(dict.fromkeys(run["contender"] for run in data["runs"]))
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    text = f"{before}{BEGIN}\n\n{about}:\n\n{tables(data['runs'], names)}\n\n{END}{after}"
    PAGE.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="contenders whose name contains this; writes no page")
    parser.add_argument("--report", action="store_true", help="only write the page anew")
    arguments = parser.parse_args()
    if arguments.report:
        write_page(json.loads(RESULTS.read_text()))
        return
    build_relay()
    runs: list[dict[str, Any]] = []
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    only = arguments.only or ""
    libraries = [c for c in contenders() if c.name in NAMES and only in c.name and c.is_there]
    with tempfile.TemporaryDirectory() as folder:
        files = peers.certificate(Path(folder))

        def note(
            contender: Contender,
            algorithm: str,
            link: tuple[int, int],
            workload: tuple[str, int],
            bottleneck: tuple[int, ...] = (),
        ) -> None:
            what = {
                "contender": NAMES[contender.name],
                "algorithm": algorithm,
                "trip": link[0],
                "loss": link[1],
                "workload": workload[0],
                "streams": workload[1] if workload[0] == "upload" else 0,
            }
            result = take(contender, algorithm, link, workload, files, bottleneck)
            runs.append(what | {"load": os.getloadavg()[0]} | result)
            print(what, {k: v for k, v in result.items() if k != "times_ms"}, flush=True)

        for link in LINKS:
            for algorithm in ALGORITHMS:
                for contender in libraries:
                    note(contender, algorithm, link, ("upload", 1))
            for contender in libraries:
                note(contender, "cubic", link, ("requests", REQUESTS[link[0]]))
        for streams in (1, 4):
            for contender in libraries:
                note(contender, "cubic", (40, 0), ("upload", streams), GIGABIT)
    data = {
        "started": started,
        "command": " ".join(["python", "benches/links/run.py", *sys.argv[1:]]),
        "machine": peers.machine(),
        "runs": runs,
    }
    if arguments.only is None:
        RESULTS.write_text(json.dumps(data, indent=1) + "\n")
        write_page(data)


if __name__ == "__main__":
    main()
