"""The wheel, as an installer gets it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.check_wheel import check_tutorial, modules_of

ROOT = Path(__file__).resolve().parents[2]
MAX_WHEEL_SIZE = 2_800_000
MAX_SDIST_SIZE = 2_000_000
MAX_IMPORT_SECONDS = 0.150
"""What `import pywebtransport.server` may cost above `import asyncio`, of processor time."""
MAX_IMPORT_SHARE = 1.75
"""The same in parts of what `import asyncio` costs, on a machine where that takes long."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make build` builds, so that cargo has nothing left to compile."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(["make", "--silent", "wheel", f"DIST={out}"], cwd=ROOT, check=True)
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


def test_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_WHEEL_SIZE


def test_wheel_lists_the_crates_in_it(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if "/sboms/" in name)
    document = json.loads(archive.read(name))
    assert document["bomFormat"] == "CycloneDX"
    listed = {each["name"]: each["version"] for each in document["components"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(each["name"], each["version"]) for each in lock}
    assert {"quinn-proto", "rustls", "pyo3"} <= listed.keys()
    assert set(listed.items()) <= locked
    assert all(each.get("licenses") for each in document["components"])


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_import_loads_only_what_every_program_uses(place: Path, tmp_path: Path) -> None:
    assert modules_of(sys.executable, tmp_path, PYTHONPATH=str(place)) == []


@pytest.mark.parametrize("engine", ["native", "aioquic"])
def test_tutorial_runs_from_the_wheel(place: Path, tmp_path: Path, engine: str) -> None:
    check_tutorial(sys.executable, tmp_path, engine, PYTHONPATH=str(place))


def test_import_is_quick(place: Path, tmp_path: Path) -> None:
    """Medians of processor time, with compiled bytecode, of both by turns."""
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def seconds(module: str) -> float:
        code = f"import {module}, time; print(time.process_time())"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return float(done.stdout)

    both = "asyncio", "pywebtransport.server"
    for module in both:
        seconds(module)
    base, own = (
        statistics.median(each)
        for each in zip(*([seconds(module) for module in both] for _ in range(9)), strict=True)
    )
    print(f"asyncio {base * 1000:.0f} ms, pywebtransport.server {(own - base) * 1000:.0f} ms more")
    assert own - base < max(MAX_IMPORT_SECONDS, MAX_IMPORT_SHARE * base)


def test_sdist_has_what_a_build_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "maturin", "sdist", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    (built,) = tmp_path.glob("*.tar.gz")
    assert built.stat().st_size < MAX_SDIST_SIZE
    with tarfile.open(built) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "Cargo.lock").read_bytes() == (ROOT / "Cargo.lock").read_bytes()
    for name in ("LICENSE", "README.md", "pyproject.toml", "rust/python/Cargo.toml"):
        assert (folder / name).is_file(), name
    # Without a network and outside of any git repository, the lock file fits what is there.
    cargo = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    subprocess.run(cargo, cwd=folder, check=True, capture_output=True)
