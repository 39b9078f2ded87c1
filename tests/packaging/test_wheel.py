"""The wheel, as an installer gets it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make build` builds, so that cargo has nothing left to compile."""
    out = tmp_path_factory.mktemp("wheel")
    command = ["-m", "maturin", "build", "--release", "--quiet", "--compatibility", "linux"]
    subprocess.run([sys.executable, *command, "--out", str(out)], cwd=ROOT, check=True)
    (built,) = out.glob("*.whl")
    print(f"{built.name}: {built.stat().st_size} bytes")
    return built


@pytest.mark.timeout(600)
def test_wheel_has_one_stable_abi_extension(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    libraries = [name for name in names if name.endswith((".so", ".pyd", ".dylib"))]
    assert libraries == ["pywebtransport/_native.abi3.so"]
    assert "-cp311-abi3-" in wheel.name


def test_wheel_has_types_and_every_module(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"pywebtransport/py.typed", "pywebtransport/_native.pyi"} <= names
    package = ROOT / "python/pywebtransport"
    modules = {str(path.relative_to(package.parent)) for path in package.rglob("*.py")}
    assert modules <= names
    page = package / "demo/static"
    assert {str(path.relative_to(package.parent)) for path in page.iterdir()} <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "benches/"))]


def test_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    text = archive.read(metadata).decode()
    required = [line for line in text.splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in required if "extra ==" not in line] == [
        "Requires-Dist: aioquic>=1.7.2,<1.8",
        "Requires-Dist: click>=8.1.7",
        "Requires-Dist: cryptography>=42",
    ]
    assert "Requires-Python: >=3.11" in text
    assert "License-Expression: Apache-2.0" in text


def test_wheel_imports_from_a_folder_of_its_own(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import pywebtransport, pywebtransport._native as n; print(n.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == str(tmp_path / "pywebtransport/_native.abi3.so")
