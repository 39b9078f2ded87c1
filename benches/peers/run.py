"""Side-by-side benchmark of this library and its peers: ``python benches/peers/run.py``.

Every round runs every contender once (A B A B ...), each workload with a fresh server and
client process, at equal stream allowances. Writes ``benches/results/peers.json`` (every raw
figure, the machine and the versions), ``peers.md`` and ``peers.svg`` beside it; a whole run also
writes ``docs/peers.md`` and its plot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # also when this file is run by its path

from benches.peers import report  # noqa: E402
from benches.peers.contenders import CEILING, SMALL, Contender, contenders, ours  # noqa: E402

RESULTS = ROOT / "benches" / "results"

WORKLOADS = [
    "handshake",
    "rr",
    "rr32",
    "upload",
    "download",
    "streams1000",
    "datagram_rtt",
    "datagram_rate",
    "datagram_batch",
    "rr_beside_upload",
    "rr_beside_datagrams",
    "fan_out",
    "idle",
]

SAMPLES = {"handshake": 4, "rr": 2, "streams1000": 2, "datagram_rtt": 2}
"""How often a round takes a workload that is over in a fraction of a second, in turns as well."""


def sh(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def chosen(only: list[str] | None, before: Path | None) -> list[Contender]:
    """Those to run; what could not be built is named and left out."""
    subprocess.run(["make", "--keep-going", "--silent", "contenders"], cwd=ROOT, check=False)
    wanted = [c for c in contenders() if not only or any(each in c.name for each in only)]
    for contender in wanted:
        if not contender.is_there:
            print(f"{contender.name} is not built: left out")
    found = [contender for contender in wanted if contender.is_there]
    return (ours(before, "before: ") if before else []) + found


def wait_for_udp_port(port: int, server: subprocess.Popen[bytes], timeout: float = 20) -> None:
    wanted = f":{port:04X}"
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with status {server.returncode}")
        for table in ("/proc/net/udp", "/proc/net/udp6"):
            with open(table) as lines:
                if any(line.split()[1].endswith(wanted) for line in lines if ":" in line[:6]):
                    return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on UDP port {port} after {timeout} s")


def environment(contender: Contender, workload: str) -> dict[str, str]:
    streams = contender.streams.get(workload, "1100" if workload == "streams1000" else "200")
    # Without byte code on disk every process compiles what it imports, and figures show it.
    unwanted = ("UVLOOP", "PYWEBTRANSPORT_ENGINE", "PYTHONDONTWRITEBYTECODE")
    clean = {k: v for k, v in os.environ.items() if k not in unwanted}
    if workload == "datagram_batch":
        clean["BATCH"] = "1"
    return clean | {"STREAMS": streams} | contender.sizes | contender.environment


def run_one(contender: Contender, workload: str, pair: tuple[Path, Path]) -> dict[str, object]:
    port = random.randint(20_000, 32_000)
    env = environment(contender, workload)
    server = subprocess.Popen(
        [*contender.server, str(port), *map(str, pair)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that it ends with what it started
    )
    try:
        wait_for_udp_port(port, server)
        client = subprocess.run(
            [*contender.client, str(port), str(server.pid), workload],
            env=env,
            capture_output=True,
            text=True,
            timeout=200,
        )
        if client.returncode:
            return {f"{workload}_failed": " ".join(client.stderr.strip().splitlines()[-1:])}
        return dict(json.loads(client.stdout))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return {f"{workload}_failed": str(error)[:200]}
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def run_ceiling(megabytes: int) -> dict[str, object]:
    done = subprocess.run(
        [CEILING, str(megabytes)], capture_output=True, text=True, timeout=120, check=True
    )
    return dict(json.loads(done.stdout))


def certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    sh("openssl", "req", "-x509", *curve, "-nodes", "-days", "10", "-subj", "/CN=localhost",
       "-addext", names, "-keyout", key, "-out", cert)  # fmt: skip
    return cert, key


def machine() -> dict[str, object]:
    with open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":")[1].strip() for line in cpuinfo if "model name" in line), "")
    return {"cores": os.cpu_count(), "cpu": model, "kernel": platform.release()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workload", action="append", choices=WORKLOADS)
    parser.add_argument("--only", action="append", help="contenders whose name contains this")
    parser.add_argument(
        "--before",
        type=Path,
        metavar="PYTHON",
        help="the Python of an environment with another build of this library, as one more",
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    parser.add_argument("--small", action="store_true", help="see whether all of it runs")
    parser.add_argument("--no-ceiling", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the servers end as well

    libraries = chosen(arguments.only, arguments.before)
    if arguments.small:
        for contender in libraries:
            contender.sizes = SMALL
    workloads = arguments.workload or WORKLOADS
    bulk = [w for w in workloads if w in ("upload", "download")]
    has_ceiling = bool(bulk) and not arguments.no_ceiling and CEILING.exists()
    runs: list[dict[str, object]] = [
        {"contender": contender.name, f"{workload}_cannot": contender.cannot[workload]}
        for contender in libraries
        for workload in workloads
        if workload in contender.cannot
    ]
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory() as folder:
        pair = certificate(Path(folder))
        for round_number in range(1, arguments.rounds + 1):
            for workload in workloads:
                able = [c for c in libraries if workload not in c.cannot]
                samples = range(SAMPLES.get(workload, 1))
                for contender in (c for i in samples for c in able if not i or c.samples):
                    begin = time.monotonic()
                    result = run_one(contender, workload, pair)
                    result["seconds"] = round(time.monotonic() - begin, 1)
                    runs.append({"round": round_number, "contender": contender.name} | result)
                    shown = {k: v for k, v in result.items() if k != "version"}
                    print(f"round {round_number}  {contender.name:32} {shown}", flush=True)
                if has_ceiling and workload == bulk[0]:
                    result = run_ceiling(256)
                    runs.append({"round": round_number, "contender": report.CEILING} | result)
                    print(f"round {round_number}  {report.CEILING:32} {result}", flush=True)
    data = {
        "started": started,
        "command": " ".join(["python", "benches/peers/run.py", *sys.argv[1:]]),
        "machine": machine(),
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(data, indent=1) + "\n")
    is_partial = arguments.only or arguments.workload or arguments.before or arguments.small
    report.write(arguments.output, None if is_partial else ROOT / "docs")


if __name__ == "__main__":
    main()
