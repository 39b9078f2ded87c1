"""The README is also the page of the package index, which knows no file of the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = [
    *re.findall(r"\]\((\S+?)\)", README),
    *re.findall(r"^\[.+\]: (\S+)$", README, re.M),
    *re.findall(r"(?:href|src)=\"(\S+?)\"", README),
]


def test_no_link_is_relative() -> None:
    assert PROJECT["readme"] == "README.md"
    assert len(TARGETS) > 20
    wrong = [target for target in TARGETS if not target.startswith(("https://", "#"))]
    assert not wrong


def test_links_into_the_repository_lead_to_files() -> None:
    files = f"{PROJECT['urls']['Source']}/blob/main/"
    paths = [target.removeprefix(files) for target in TARGETS if "github.com" in target]
    assert paths
    assert not [path for path in paths if not (ROOT / path.partition("#")[0]).is_file()]


def test_every_link_by_name_is_defined_and_used() -> None:
    text = re.sub(r"^```.*?^```|`[^`]*`", "", README, flags=re.S | re.M)
    definition = re.compile(r"^\[(.+)\]: .*", re.M)
    links = re.findall(r"\[([^\][]*)\](?:\[([^\]]+)\])?(?!\()", definition.sub("", text))
    assert {name or words for words, name in links} == set(definition.findall(text))
