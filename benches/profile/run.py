"""``make profile``: what the extension does most, for the compiler to build it by.

Runs the workloads of benches/peers and benches/links with a build that counts (the first argument:
the folder that has its package), and merges the counts into a profile (the second). What is counted
is written as it happens, so that a server that is killed has told all it knew. The long, lossy
links are in it because what a profile never saw is built to be small, not fast.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benches.links import run as links
from benches.peers import run as peers
from benches.peers.contenders import Contender, contenders

TRAINED = ("native, uvloop", "native, asyncio")
LONG_LINK = (20, 10)
"""Milliseconds of a round trip, and packets lost of a thousand each way."""
SIZES = {"MB": "128", "REQUESTS": "2000", "RR32": "20000", "CONNECTIONS": "200"}


def profdata() -> Path:
    """rustup's component ``llvm-tools``: a profile is for the compiler that reads it."""
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    found = list(Path(sysroot).glob("lib/rustlib/*/bin/llvm-profdata*"))
    if not found:
        sys.exit("llvm-profdata is needed: rustup component add llvm-tools")
    return found[0]


def train(contender: Contender, files: tuple[Path, Path]) -> None:
    for workload in peers.WORKLOADS:
        tell(contender, workload, peers.run_one(contender, workload, files))
    for algorithm in links.ALGORITHMS:
        for workload in (("upload", 1), ("requests", 100)):
            result = links.take(contender, algorithm, LONG_LINK, workload, files)
            tell(contender, f"{workload[0]} with {algorithm} over {LONG_LINK}", result)


def tell(contender: Contender, what: str, result: dict[str, object]) -> None:
    shown = {key: value for key, value in result.items() if key not in ("version", "times_ms")}
    print(f"{contender.name}  {what}  {shown}", flush=True)
    if any(key.endswith("failed") for key in result):
        sys.exit("a profile is made from what works")


def main() -> None:
    package, profile = map(Path, sys.argv[1:])
    tool = profdata()
    links.build_relay()
    with tempfile.TemporaryDirectory() as folder:
        files = peers.certificate(Path(folder))
        os.environ |= {
            "PYTHONPATH": str(package.resolve()),
            # One file for each process, kept up to date.
            "LLVM_PROFILE_FILE": f"{folder}/%p%c.profraw",
        }
        for contender in contenders():
            if contender.name in TRAINED:
                contender.sizes |= SIZES
                train(contender, files)
        counted = list(Path(folder).glob("*.profraw"))
        subprocess.run([tool, "merge", "--sparse", "-o", profile, *counted], check=True)
    print(f"{profile}: {profile.stat().st_size / 1024:.0f} KiB from {len(counted)} processes")


if __name__ == "__main__":
    main()
