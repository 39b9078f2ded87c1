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
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "benches" / "results"
PEERS = ROOT / ".cache" / "peers"
CEILING = ROOT / ".cache" / "ceiling"

WORKLOADS = [
    "handshake",
    "rr",
    "rr32",
    "upload",
    "download",
    "streams1000",
    "datagram_rtt",
    "datagram_rate",
    "fan_out",
    "idle",
]

SAMPLES = {"handshake": 4, "rr": 2, "streams1000": 2, "datagram_rtt": 2}
"""How often a round takes a workload that is over in a fraction of a second, in turns as well."""


@dataclass
class Contender:
    """One library in one configuration."""

    name: str
    python: Path
    api: str
    environment: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    """Pure Python: gets smaller bulk sizes and one sample, so that a round ends in minutes."""


def sh(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def python_at_least(minor: int) -> str | None:
    """A Python of at least 3.minor: on PATH, or one that pyenv has."""
    candidates = [f"python3.{m}" for m in (14, 13, 12, 11) if m >= minor]
    roots = sorted(Path.home().glob(".pyenv/versions/3.1[1-9].*/bin/python3"), reverse=True)
    for candidate in [*map(str, roots), *candidates, sys.executable]:
        try:
            found = subprocess.run(
                [candidate, "-c", "import sys; print(*sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
        except (OSError, subprocess.CalledProcessError):
            continue
        if (int(found[0]), int(found[1])) >= (3, minor):
            return candidate
    return None


def peer(version: str, minor: int) -> Path | None:
    """The Python of a virtual environment that holds the PyPI release ``version``."""
    home = PEERS / f"pywebtransport-{version}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        base = python_at_least(minor)
        if base is None:
            print(f"pywebtransport {version} needs Python 3.{minor}, and there is none: left out")
            return None
        sh(base, "-m", "venv", "--clear", home)
        sh(python, "-m", "pip", "install", "-q", f"pywebtransport=={version}", "uvloop")
        (home / "ready").touch()
    return python


def contenders(wanted: list[str] | None) -> list[Contender]:
    ours = Path(sys.executable)
    uvloop = {"UVLOOP": "1"}
    found = [
        Contender("native, uvloop", ours, "api08", uvloop | {"PYWEBTRANSPORT_ENGINE": "native"}),
        Contender("native, asyncio", ours, "api08", {"PYWEBTRANSPORT_ENGINE": "native"}),
        Contender(
            "aioquic engine, uvloop",
            ours,
            "api08",
            uvloop | {"PYWEBTRANSPORT_ENGINE": "aioquic"},
            slow=True,
        ),
    ]
    if (python := peer("0.21.1", 12)) is not None:
        found.append(Contender("PyPI 0.21.1, uvloop", python, "api21", uvloop))
    if (python := peer("0.8.1", 11)) is not None:
        found.append(Contender("PyPI 0.8.1, uvloop", python, "api08", uvloop, slow=True))
    return [c for c in found if not wanted or any(w in c.name for w in wanted)]


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
    streams = "200"
    if workload == "streams1000":
        # 0.8.1 never gives a stream slot back, so it needs more than it uses at once.
        streams = "100000" if "0.8.1" in contender.name else "1100"
    elif "0.8.1" in contender.name and workload in ("rr", "rr32"):
        streams = "100000"
    sizes = {"MB": "32", "RR32": "4000"} if contender.slow else {}
    # Without byte code on disk every process compiles what it imports, and figures show it.
    unwanted = ("UVLOOP", "PYWEBTRANSPORT_ENGINE", "PYTHONDONTWRITEBYTECODE")
    clean = {k: v for k, v in os.environ.items() if k not in unwanted}
    return clean | {"STREAMS": streams} | sizes | contender.environment


def run_one(contender: Contender, workload: str, pair: tuple[Path, Path]) -> dict[str, object]:
    port = random.randint(20_000, 32_000)
    env = environment(contender, workload)
    with tempfile.TemporaryFile() as errors:
        server = subprocess.Popen(
            [contender.python, HERE / "server.py", contender.api, str(port), *map(str, pair)],
            env=env,
            stderr=errors,
        )
        try:
            wait_for_udp_port(port, server)
            client = subprocess.run(
                [
                    contender.python,
                    HERE / "client.py",
                    contender.api,
                    str(port),
                    str(server.pid),
                    workload,
                ],
                env=env,
                capture_output=True,
                text=True,
                timeout=200,
            )
            if client.returncode:
                return {f"{workload}_failed": client.stderr.strip().splitlines()[-1:]}
            return dict(json.loads(client.stdout))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return {f"{workload}_failed": str(error)[:200]}
        finally:
            server.kill()
            server.wait()


def build_ceiling() -> Path:
    """The pure-Rust program: the same bulk workload over quinn, no Python."""
    sh(
        "cargo",
        "build",
        "--release",
        "--quiet",
        "--locked",
        "--manifest-path",
        HERE / "ceiling" / "Cargo.toml",
        "--target-dir",
        CEILING,
    )
    return CEILING / "release" / "ceiling"


def run_ceiling(program: Path, megabytes: int) -> dict[str, object]:
    done = subprocess.run(
        [program, str(megabytes)], capture_output=True, text=True, timeout=120, check=True
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workload", action="append", choices=WORKLOADS)
    parser.add_argument("--only", action="append", help="contenders whose name contains this")
    parser.add_argument(
        "--before",
        type=Path,
        metavar="PYTHON",
        help="the Python of an environment with another build of this library, as one more",
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    parser.add_argument("--no-ceiling", action="store_true")
    arguments = parser.parse_args()

    libraries = contenders(arguments.only)
    if arguments.before:
        libraries[:0] = [
            Contender(f"before: {c.name}", arguments.before, c.api, c.environment, c.slow)
            for c in libraries
            if c.python == Path(sys.executable)
        ]
    workloads = arguments.workload or WORKLOADS
    bulk = [w for w in workloads if w in ("upload", "download")]
    ceiling = build_ceiling() if bulk and not arguments.no_ceiling else None
    runs: list[dict[str, object]] = []
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory() as folder:
        pair = certificate(Path(folder))
        for round_number in range(1, arguments.rounds + 1):
            for workload in workloads:
                samples = range(SAMPLES.get(workload, 1))
                for contender in (c for i in samples for c in libraries if not (i and c.slow)):
                    result = run_one(contender, workload, pair)
                    runs.append({"round": round_number, "contender": contender.name} | result)
                    shown = {k: v for k, v in result.items() if k != "version"}
                    print(f"round {round_number}  {contender.name:24} {shown}", flush=True)
                if ceiling and workload == bulk[0]:
                    result = run_ceiling(ceiling, 256)
                    runs.append({"round": round_number, "contender": report.CEILING} | result)
                    print(f"round {round_number}  {report.CEILING:24} {result}", flush=True)
    data = {
        "started": started,
        "command": " ".join(["python", "benches/peers/run.py", *sys.argv[1:]]),
        "machine": machine(),
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(data, indent=1) + "\n")
    is_whole = not (arguments.only or arguments.workload or arguments.before)
    report.write(arguments.output, ROOT / "docs" if is_whole else None)


if __name__ == "__main__":
    main()
