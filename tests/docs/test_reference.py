"""The reference pages are what the docstrings say now, and every example runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import generate_reference as reference  # noqa: E402

EXAMPLES = sorted((ROOT / "examples" / "api").glob("[a-z]*.py"))


def test_reference_pages_are_up_to_date() -> None:
    stale = [
        path.name
        for path, body in reference.pages().items()
        if not path.exists() or path.read_text() != body
    ]
    assert not stale, "run `make docs`"


@pytest.mark.parametrize("module", reference.MODULES)
def test_every_public_name_says_what_it_is(module: str) -> None:
    page = reference.page(module)
    empty = [
        block.splitlines()[0]
        for block in page.split("\n#### ")[1:]
        if len([line for line in block.splitlines() if line.strip()]) < 2
    ]
    assert not empty, f"{module}: no docstring: {empty}"


def test_every_module_has_an_example() -> None:
    have = {path.stem for path in EXAMPLES}
    wanted = {name.replace(".", "_") for name in reference.MODULES if name != "quic.events"}
    assert wanted == have - {"local"}


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.stem != "local"], ids=lambda p: p.stem)
def test_example_runs(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", f"examples.api.{path.stem}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example shows something"
    assert "Traceback" not in done.stderr, done.stderr
