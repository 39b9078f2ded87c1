"""A certificate for a browser, a timer, durations."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pywebtransport.utils import Timer, format_duration, generate_self_signed_cert


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Timer(name="certificate") as timer:
        certfile, keyfile = generate_self_signed_cert(
            hostname="localhost", output_dir=folder, days_valid=10
        )
        print(Path(certfile).name, Path(keyfile).name, timer.elapsed > 0)
    print(format_duration(seconds=0.012), format_duration(seconds=3665))


if __name__ == "__main__":
    main()
