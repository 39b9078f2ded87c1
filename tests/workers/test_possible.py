"""Where there can be no workers, one sentence says so; and what the kernel's program decides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import ServerError
from pywebtransport.server import current_worker
from pywebtransport.server.workers.port import routing_program

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("workers", [0, -1, 65, True, 2.0, "2", None])
def test_a_number_of_workers_is_a_number(workers: Any) -> None:
    with pytest.raises(ValueError, match=r"workers has to be a number from 1 to 64, not "):
        ServerApp().run(workers=workers)


def test_workers_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ServerError, match=r"workers=2 needs Linux, .* on darwin run one process"):
        ServerApp().run(workers=2)


def test_workers_need_an_engine_that_makes_its_connection_ids() -> None:
    app = ServerApp(config=ServerConfig(engine="aioquic"))
    with pytest.raises(ServerError, match="workers=2 needs the engine 'native': 'aioquic' has no"):
        app.run(workers=2)


def test_a_program_that_cannot_be_started_again_says_so() -> None:
    program = "from pywebtransport import ServerApp; ServerApp().run(workers=2)"
    ended = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert ended.returncode == 1
    assert "read from standard input has none: put it into a file" in ended.stderr


def test_this_process_is_no_worker() -> None:
    assert current_worker() is None


def run_program(program: bytes, packet: bytes) -> int:
    """What the kernel makes of it: a load past the end returns 0."""
    steps = [
        (
            program[at] | program[at + 1] << 8,
            program[at + 2],
            program[at + 3],
            program[at + 4 : at + 8],
        )
        for at in range(0, len(program), 8)
    ]
    result = at = 0
    while True:
        code, then, otherwise, operand = steps[at]
        value = int.from_bytes(operand, sys.byteorder)
        at += 1
        match code:
            case 0x30:
                if value >= len(packet):
                    return 0
                result = packet[value]
            case 0x05:
                at += value
            case 0x15:
                at += then if result == value else otherwise
            case 0x35:
                at += then if result >= value else otherwise
            case 0x45:
                at += then if result & value else otherwise
            case 0x94:
                result %= value
            case 0x06:
                return value
            case 0x16:
                return result
            case _:
                raise AssertionError(f"unknown code {code:#x}")


@pytest.mark.parametrize("count", [2, 6, 128])
def test_the_program_sends_a_connection_to_its_place(count: int) -> None:
    for accepting in ([0], [1], list(range(count)), list(range(count // 2, count))):
        program = routing_program(count, accepting)
        for octet in range(0, 256, 5):
            for kind in (0xC0, 0xD0, 0xE0, 0xF0, 0x80):
                ours = bytes([kind, 0, 0, 0, 1, 7, 9, octet, *bytes(5), 0])
                assert run_program(program, ours) == octet % count
                theirs = bytes([kind, 0, 0, 0, 1, 8, 9, octet, *bytes(6), 0])
                assert run_program(program, theirs) == accepting[octet % len(accepting)]
            assert run_program(program, bytes([0x40, 9, octet, *bytes(30)])) == octet % count
        for size in range(6):
            run_program(program, bytes([0xC0, *bytes(8)])[:size])
