"""Every documented symbol exists, with its documented signature, defaults and values.

``surface.json`` is the machine-readable form of the documents, ``check_api.py`` compares a package
with it. It runs once; each module's mismatches are one test's failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SURFACE = json.loads((HERE / "surface.json").read_text(encoding="utf-8"))
LAYERS = ("core", "undoc", "submodule", "v061", "v070", "index", "quic")


def room(module: str) -> str:
    """The documented module that a deeper import path belongs to."""
    return ".".join(module.split(".")[:2])


ROOMS = sorted({room(item["module"]) for item in SURFACE["symbols"] + SURFACE["exports"]})


@pytest.fixture(scope="session")
def mismatches(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    report = tmp_path_factory.mktemp("surface") / "report.json"
    command = [sys.executable, str(HERE / "check_api.py"), "--layer", ",".join(LAYERS)]
    done = subprocess.run([*command, "--report", str(report)], capture_output=True, text=True)
    assert report.exists(), done.stderr
    results: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    found = defaultdict(list)
    for result in results:
        if not result["ok"]:
            found[room(result["module"])].append(
                f"[{result['layer']}] {result['item']}: {'; '.join(result['problems'])}"
            )
    return found


@pytest.mark.parametrize("module", ROOMS)
def test_module_conforms(module: str, mismatches: Mapping[str, list[str]]) -> None:
    assert mismatches.get(module, []) == []
