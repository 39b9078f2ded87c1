"""Who takes part: how each contender's server and client are started, and what it cannot do.

`make contenders` builds all that is named here, from the versions in the lock files and in
tests/interop/peers/requirements.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CEILING", "NAMES", "Contender", "contenders", "ours"]

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache"
PEERS, PROGRAMS = CACHE / "peers", CACHE / "bench"
CEILING = PROGRAMS / "ceiling/release/ceiling"

UVLOOP = {"UVLOOP": "1"}
NATIVE = {"PYWEBTRANSPORT_ENGINE": "native"}
AIOQUIC = {"PYWEBTRANSPORT_ENGINE": "aioquic"}
SLOW = {"MB": "32", "RR32": "4000", "FAN": "100", "IDLE": "200"}
"""For pure Python: smaller sizes, so that a round ends in minutes."""
SMALL = {"MB": "1", "RR32": "100", "FAN": "4", "IDLE": "10", "CONNECTIONS": "5"}
SMALL |= {"REQUESTS": "20", "UPLOADS": "40", "DATAGRAM_MS": "200"}
"""For `--small`: whether all runs, and no figure that means anything."""
NO_BATCH = {"datagram_batch": "has no call for several datagrams"}
MANY = "100000"
NO_SLOT_BACK = dict.fromkeys(
    ("rr", "rr32", "streams1000", "rr_beside_upload", "rr_beside_datagrams"), MANY
)
"""Streams that 0.8.1 has to allow where it opens many: it never gives a slot back."""


@dataclass
class Contender:
    """One library in one configuration."""

    name: str
    server: list[str]
    """Its command, without ``PORT CERT KEY``."""
    client: list[str]
    """Its command, without ``PORT SERVER_PID WORKLOAD``."""
    environment: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, str] = field(default_factory=dict)
    """What differs from the sizes in client.py."""
    streams: dict[str, str] = field(default_factory=dict)
    """By workload: streams that both sides allow, where it is not what all allow."""
    cannot: dict[str, str] = field(default_factory=dict)
    """By workload: why there is no figure."""
    samples: bool = False
    """It takes short workloads several times in a round (SAMPLES of run.py)."""

    @property
    def is_there(self) -> bool:
        return Path(self.server[0]).exists() and Path(self.client[0]).exists()


def script(name: str, api: str, python: str | Path = sys.executable) -> list[str]:
    return [str(python), str(HERE / name), api]


def in_python(name: str, python: str | Path, api: str, **options: object) -> Contender:
    return Contender(
        name,
        script("server.py", api, python),
        script("client.py", api, python),
        **options,  # type: ignore[arg-type]
    )


def program(name: str, path: str, **options: object) -> Contender:
    command = str(PROGRAMS / path)
    return Contender(name, [command, "serve"], [command, "client"], **options)  # type: ignore[arg-type]


def ours(python: str | Path = sys.executable, prefix: str = "") -> list[Contender]:
    """This library, as the environment of ``python`` has it."""
    return [
        in_python(f"{prefix}native, uvloop", python, "api08", environment=UVLOOP | NATIVE),
        in_python(f"{prefix}native, asyncio", python, "api08", environment=NATIVE),
        in_python(
            f"{prefix}aioquic engine, uvloop",
            python,
            "api08",
            environment=UVLOOP | AIOQUIC,
            sizes=SLOW,
        ),
    ]


def contenders() -> list[Contender]:
    def environment(name: str) -> Path:
        return PEERS / name / "bin/python"

    found = ours()
    found[0].samples = found[1].samples = True
    return [
        *found,
        in_python(
            "PyPI 0.21.1, uvloop",
            environment("pywebtransport-0.21.1"),
            "api21",
            environment=UVLOOP,
            sizes={"FAN": "400"},
            cannot=NO_BATCH,
            samples=True,
        ),
        in_python(
            "PyPI 0.8.1, uvloop",
            environment("pywebtransport-0.8.1"),
            "api08",
            environment=UVLOOP,
            sizes=SLOW,
            streams=NO_SLOT_BACK,
            cannot=NO_BATCH,
        ),
        in_python(
            "web-transport-quinn 0.1, uvloop",
            environment("web-transport-quinn-0.1"),
            "web_transport_quinn",
            environment=UVLOOP,
            cannot=NO_BATCH,
        ),
        in_python(
            "aioquic 1.7, uvloop",
            sys.executable,
            "aioquic",
            environment=UVLOOP,
            sizes=SLOW,
            cannot=NO_BATCH,
        ),
        in_python(
            "qh3 2.1, uvloop",
            sys.executable,
            "qh3",
            environment=UVLOOP,
            sizes=SLOW,
            cannot=NO_BATCH,
        ),
        Contender(
            "peregrine 1.2, uvloop",
            script("server.py", "peregrine", environment("peregrine-server-1.2")),
            script("client.py", "api08"),
            environment=UVLOOP | NATIVE,
            cannot=NO_BATCH,
        ),
        program("wtransport 0.7", "rust/release/bench-wtransport", cannot=NO_BATCH),
        program("webtransport-go 0.13", "webtransport-go", cannot=NO_BATCH),
    ]


NAMES = [contender.name for contender in contenders()]
