"""The command itself: verbs, help, version, exit codes; what importing the package costs."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pywebtransport.cli import VERBS, Verbs, main
from pywebtransport.cli.output import INTERRUPTED
from pywebtransport.exceptions import ServerError
from pywebtransport.version import __version__


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pywebtransport", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_help_names_every_verb() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "Usage: pywebtransport [OPTIONS] VERB" in result.stdout
    for text in VERBS.values():
        assert text in result.stdout


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_examples(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"pywebtransport {name}" in result.output


def test_version() -> None:
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout.startswith(f"pywebtransport-native {__version__}, ")


@pytest.mark.parametrize("wrong", [("no-such-verb",), ("--no-such-option",)])
def test_asked_wrongly(wrong: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, wrong)
    assert result.exit_code == 2
    assert wrong[0] in result.output


def test_a_verb_that_is_nearly_one() -> None:
    result = CliRunner().invoke(main, ["serv"])
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: There is no verb 'serv'; did you mean serve?\n")


def test_what_the_library_says_is_one_line() -> None:
    @click.group(cls=Verbs, invoke_without_command=True)
    def group() -> None:
        raise ServerError("the port is taken")

    result = CliRunner().invoke(group, [])
    assert result.exit_code == 1
    assert result.stderr == "Error: the port is taken\n"


def test_interrupt() -> None:
    @click.group(cls=Verbs, invoke_without_command=True)
    def group() -> None:
        raise KeyboardInterrupt

    assert CliRunner().invoke(group, []).exit_code == INTERRUPTED == 130


def test_the_package_costs_no_click() -> None:
    code = "import pywebtransport, pywebtransport.server, sys; print('click' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
