"""Whose work a user of the wheel gets: every crate and Python package, by its licence."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distribution
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
# Theirs binds who changes their files, not who uses them; certifi comes with aioquic.
ALLOWED_FOR = {"certifi": {"MPL-2.0"}}
OLD_NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache License, Version 2.0": "Apache-2.0",
}


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression leaves a choice that is allowed; crates may write `/` for OR."""
    text = expression.replace("/", " OR ").strip()
    if text in allowed:
        return True
    for word, holds in ((" OR ", any), (" AND ", all)):
        parts = re.split(rf"{word}(?![^(]*\))", text)
        if len(parts) > 1:
            return holds(is_allowed(part, allowed) for part in parts)
    inner = re.fullmatch(r"\(([^()]*)\)", text)
    return inner is not None and is_allowed(inner[1], allowed)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("GPL-3.0-only", False),
        ("LGPL-2.1-or-later OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("(MIT OR Apache-2.0) AND GPL-2.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("", False),
    ],
)
def test_expressions_are_read_as_spdx_means_them(expression: str, expected: bool) -> None:
    assert is_allowed(expression, ALLOWED) is expected


@cache
def crates() -> list[dict[str, Any]]:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["packages"]


def test_every_crate_has_an_allowed_licence() -> None:
    """Those of all systems, and what only builds or tests, included."""
    assert len(crates()) > 50
    refused = {
        crate["name"]: crate["license"]
        for crate in crates()
        if not is_allowed(crate["license"] or "", ALLOWED)
    }
    assert not refused


def test_every_crate_comes_from_where_all_can_get_it() -> None:
    """A crate from a git repository would keep the sdist from being built without one."""
    elsewhere = [
        crate["id"]
        for crate in crates()
        if crate["source"] and not crate["source"].startswith("registry+")
    ]
    assert not elsewhere


def packages() -> Iterator[Distribution]:
    """What `pip install pywebtransport-native` brings, with every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    seen: set[str] = set()
    while waiting:
        requirement, _, marker = waiting.pop().partition(";")
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        # Extras of theirs are asked for by nobody here, and this interpreter is new enough.
        if name in seen or re.search(r"\bextra\b|python_(full_)?version *<", marker):
            continue
        seen.add(name)
        yield distribution(name)
        waiting += distribution(name).requires or ()


def licence(package: Distribution) -> str:
    metadata = package.metadata
    text = metadata.get("License-Expression") or metadata.get("License") or ""
    return OLD_NAMES.get(text, text)


def test_every_python_package_has_an_allowed_licence() -> None:
    found = {package.name: licence(package) for package in packages()}
    print(found)
    assert {"aioquic", "certifi", "click", "cryptography", "redis"} <= found.keys()
    refused = {
        name: text
        for name, text in found.items()
        if not is_allowed(text, ALLOWED | ALLOWED_FOR.get(name, set()))
    }
    assert not refused
