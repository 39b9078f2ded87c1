"""Commands of ours in the pages have the verbs and options that they are given."""

from __future__ import annotations

import configparser
import re
import shlex

import click
import pytest
import yaml

from pywebtransport.cli import main
from tests.docs.snippets import ROOT, snippets

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    (f"{path.relative_to(ROOT)}:{snippet.line}", snippet)
    for path in PAGES
    for snippet in snippets(path.read_text())
]


def commands() -> list[tuple[str, list[str]]]:
    """Where a command of ours stands, and its words: in shells, units and containers."""
    found = []
    for place, snippet in BLOCKS:
        if snippet.language not in ("sh", "ini", "dockerfile"):
            continue
        for line in snippet.code.replace("\\\n", " ").splitlines():
            words = line
            if snippet.language == "dockerfile":
                words = re.sub(r'[\[\],"]', " ", line)
            if command := re.search(r"(?:^|[\s/])pywebtransport (\w+ .*)", words):
                found.append((place, shlex.split(command[1], comments=True)))
    return found


@pytest.mark.parametrize(("place", "words"), commands(), ids=[place for place, _ in commands()])
def test_a_command_has_its_verb_and_options(place: str, words: list[str]) -> None:
    command: click.Command | None = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        verb, *words = words
        command = command.get_command(context, verb)
        assert command is not None, f"{place}: there is no {verb}"
    known = {name for each in command.get_params(context) for name in each.opts}
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert not [option for option in options if option not in known], place


def test_files_of_other_programs_can_be_read() -> None:
    kinds = set()
    for _, snippet in BLOCKS:
        if snippet.language == "yaml":
            assert all(yaml.safe_load_all(snippet.code))
        elif snippet.language == "ini":
            configparser.ConfigParser(interpolation=None, strict=False).read_string(snippet.code)
        kinds.add(snippet.language)
    assert {"python", "sh"} <= kinds
