"""``cert``: what it writes, and what it says of what others wrote."""

from __future__ import annotations

import base64
import json
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pywebtransport.cli import main
from pywebtransport.utils import certificate_hash, generate_self_signed_cert


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def cert(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cert", *arguments])


def test_make(folder: Path) -> None:
    result = cert("make")
    assert result.exit_code == 0
    sha256 = certificate_hash(path="localhost.crt")
    assert sha256 in result.stdout
    assert f'atob("{base64.b64encode(bytes.fromhex(sha256)).decode()}")' in result.stdout
    assert "localhost, 127.0.0.1, ::1" in result.stdout
    assert stat.S_IMODE((folder / "localhost.key").stat().st_mode) == 0o600

    again = cert("make")
    assert again.exit_code == 1
    assert again.stderr == (
        "Error: localhost.crt and localhost.key are there already; --force replaces them\n"
    )
    assert certificate_hash(path="localhost.crt") == sha256
    assert cert("make", "--force").exit_code == 0
    assert certificate_hash(path="localhost.crt") != sha256


def test_json(folder: Path) -> None:
    made = cert("make", "example.org", "--days", "7", "--directory", "below/this", "--json")
    facts = json.loads(made.stdout)
    certfile = "below/this/example.org.crt"
    assert facts.pop("keyfile") == "below/this/example.org.key"
    assert facts == json.loads(cert("show", certfile, "--json").stdout)
    assert facts["names"] == ["example.org"]
    assert facts["sha256"] == certificate_hash(path=certfile)
    assert base64.b64decode(facts["sha256_base64"]).hex() == facts["sha256"]
    assert facts["key"] == "ECDSA with P-256"
    assert facts["self_signed"] and facts["accepted_by_hash"] and not facts["refused_because"]
    start, end = (datetime.fromisoformat(facts[name]) for name in ("not_before", "not_after"))
    assert end - start == timedelta(days=7)


def test_one_that_browsers_refuse() -> None:
    certfile, _ = generate_self_signed_cert(hostname="old.example", days_valid=30)
    result = cert("show", certfile)
    assert result.exit_code == 0
    assert (
        "by its hash  no, its key is RSA, not ECDSA with P-256"
        " and it is valid for 30 days, more than 14\n"
    ) in result.stdout
    facts = json.loads(cert("show", certfile, "--json").stdout)
    assert not facts["accepted_by_hash"]
    assert facts["refused_because"] == [
        "its key is RSA, not ECDSA with P-256",
        "it is valid for 30 days, more than 14",
    ]


def test_show_without_a_file() -> None:
    result = cert("show")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: there is no development certificate yet: name a file, or try serve --dev\n"
    )
    cert("make", "--directory", "state/pywebtransport")
    assert certificate_hash(path="state/pywebtransport/localhost.crt") in cert("show").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("show", "gone.crt"), 1, "Error: Certificate file not found: gone.crt\n"),
        (("make", "a/b"), 1, "must be one host name, got 'a/b'"),
        (("make", "--days", "15"), 2, "15 is not in the range"),
        (("make", "--directory", "/proc/nowhere"), 1, "Error: /proc/nowhere: No such file"),
    ],
)
def test_refused(arguments: tuple[str, ...], code: int, text: str) -> None:
    result = cert(*arguments)
    assert result.exit_code == code
    assert text in result.stderr
