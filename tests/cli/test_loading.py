"""``module:app``, found from the current directory; what is wrong is told in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pywebtransport.cli.loading import load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "site_one").mkdir()
    (tmp_path / "site_one/__init__.py").write_text("")
    (tmp_path / "site_one/chat.py").write_text("class Holder: inner = 7\nroom = 1\nrooms = 2\n")
    (tmp_path / "plain_server.py").write_text("app = 5\n")
    (tmp_path / "needs_more.py").write_text("x = 1\nimport nothing_like_this\n")
    (tmp_path / "raises.py").write_text("def f():\n    raise ValueError('x')\nf()\n")
    (tmp_path / "told.py").write_text(
        "from pywebtransport import ServerApp\napp = ServerApp()\n"
        "@app.route('/')\ndef handler(session): pass\n"
    )
    (tmp_path / "bad_syntax.py").write_text("x = 1\ndef (:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("site_one", "site_one.chat", "plain_server", "needs_more", "raises", "told"):
        sys.modules.pop(name, None)


def test_found() -> None:
    assert load("plain_server:app") == load("plain_server") == 5
    assert load("site_one.chat:Holder.inner") == 7


def test_another_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert load("plain_server:app", directory=str(folder)) == 5


WRONG = {
    "plain_sever:app": "no module 'plain_sever' in {}; did you mean plain_server?",
    "site_one.chatt:app": "no module 'site_one.chatt' in package 'site_one'; did you mean chat?",
    "site_two.chat:app": "no module 'site_two' in {}; did you mean site_one?",
    "plain_server.app": "module 'plain_server' is no package; did you mean plain_server:app?",
    "site_one.chat:roomz": "module 'site_one.chat' has no attribute 'roomz'; "
    "did you mean room or rooms?",
    "site_one.chat:Holder.iner": "site_one.chat:Holder has no attribute 'iner'; "
    "did you mean inner?",
    "plain_server.py:app": "'plain_server.py:app' is the path of a file: name its module, "
    "as in plain_server:app",
    "site_one/chat.py": "'site_one/chat.py' is the path of a file: name its module, "
    "as in site_one.chat:app",
    ":app": "':app' does not name an application: write module:attribute, as in server:app",
    "needs_more:app": "module 'needs_more' cannot be imported: "
    "No module named 'nothing_like_this' ({}/needs_more.py, line 2)",
    "raises:app": "module 'raises' cannot be imported: ValueError ({}/raises.py, line 2)",
    "told:app": "module 'told' cannot be imported: TypeError ({}/told.py, line 3)",
    "bad_syntax:app": "module 'bad_syntax' cannot be imported: "
    "SyntaxError ({}/bad_syntax.py, line 2)",
}


@pytest.mark.parametrize("target", WRONG)
def test_wrong(target: str, folder: Path) -> None:
    with pytest.raises(click.ClickException) as caught:
        load(target)
    assert caught.value.message == WRONG[target].format(folder)


def test_a_traceback_begins_in_the_users_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.ClickException):
        load("raises:app")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == f'  File "{folder}/raises.py", line 3, in <module>'
    assert lines[-1] == "ValueError: x"
