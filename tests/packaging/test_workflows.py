"""The workflows run what they name, and nothing that can change behind its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
USES = re.compile(r"^\s*(?:- )?uses:\s*(\S+)(?:\s+(# .*))?$", re.MULTILINE)
PINNED = re.compile(r"(?P<action>[\w.-]+(?:/[\w.-]+)+)@(?P<commit>[0-9a-f]{40})")


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(path.read_text())["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path: Path) -> None:
    text = path.read_text()
    named = sum("uses" in step for job in jobs(path).values() for step in job["steps"])
    found = USES.findall(text)
    assert len(found) == named > 0
    for action, comment in found:
        assert PINNED.fullmatch(action), action
        assert re.fullmatch(r"# v\d+\.\d+\.\d+", comment), f"{action}: of which version?"


def test_an_action_has_one_version() -> None:
    commits: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, _ in USES.findall(path.read_text()):
            name, _, commit = action.partition("@")
            commits.setdefault(name, set()).add(commit)
    assert {name: found for name, found in commits.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in jobs(path).items() if "permissions" in job}
    assert more == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})


def test_a_release_has_every_platform_and_no_password() -> None:
    path = ROOT / ".github/workflows/release.yml"
    targets = {each["target"] for each in jobs(path)["wheel"]["strategy"]["matrix"]["include"]}
    assert targets == {
        *(
            f"{cpu}-unknown-linux-{libc}"
            for cpu in ("x86_64", "aarch64")
            for libc in ("gnu", "musl")
        ),
        *("aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-pc-windows-msvc"),
    }
    assert set(jobs(path)["publish"]["needs"]) == {"sdist", "wheel"}
    assert "secrets." not in path.read_text()


def test_what_the_workflows_call_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in WORKFLOWS:
        text = path.read_text()
        assert set(re.findall(r"\bmake (?:-\S+ )*([a-z-]+)", text)) <= targets
        for program in re.findall(r"(?:^| )((?:\.ci|tests)/[\w./]+)", text, re.MULTILINE):
            assert (ROOT / program).is_file(), program
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
