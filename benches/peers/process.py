"""What another process has cost so far (Linux)."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["cpu_ns", "resident_kb"]


def cpu_ns(pid: int) -> int:
    """CPU time of all its threads: its clock's id is made of its own (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def resident_kb(pid: int) -> int:
    """Memory of it and of the processes that it started."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(resident_kb(int(child)) for child in children)
