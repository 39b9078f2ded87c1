"""``doctor --serve``: what would keep a server on this machine from serving."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from pywebtransport.cli import main
from pywebtransport.cli.diagnosis import machine
from pywebtransport.cli.diagnosis.machine import Place, examine
from pywebtransport.cli.diagnosis.report import Check, Outcome, Report
from tests.cli import broken
from tests.support.certificate import Certificate, make_certificate
from tests.support.laboratory import free_port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


async def look(shown: Certificate | None = None, **options: object) -> Report:
    report = Report()
    place = {"host": "127.0.0.1", "port": options.pop("port", None) or free_port(), **options}
    if shown is not None:
        place = {"certfile": shown.certfile, "keyfile": shown.keyfile, **place}
    await examine(report, Place(**place))  # type: ignore[arg-type]
    return report


def named(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


async def test_a_machine_that_can_serve(engine: str, certificate: Certificate) -> None:
    report = await look(certificate, engine=engine)
    assert not report.failures
    assert named(report, "certificate").facts["sha256"] == certificate.sha256
    assert named(report, "port").outcome is Outcome.OK
    assert named(report, "browser trust").outcome is Outcome.OK
    assert 0 < named(report, "self-test").facts["seconds"] < 10
    names = {check.name for check in report.checks}
    assert {"dates", "ipv6", "buffers", "offload", "descriptors", "clock"} <= names


async def test_without_a_certificate_the_rest_is_looked_at() -> None:
    report = await look()
    assert named(report, "certificate").outcome is Outcome.SKIPPED
    assert named(report, "self-test").outcome is Outcome.SKIPPED
    assert named(report, "port").outcome is Outcome.OK


async def test_a_port_in_use_and_by_whom(certificate: Certificate) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        report = await look(certificate, port=sock.getsockname()[1])
    assert [check.cause for check in report.failures] == ["port.in_use"]
    assert f"(process {os.getpid()})" in report.failures[0].text


async def test_an_address_of_another_machine() -> None:
    report = await look(host="192.0.2.1")
    assert [check.cause for check in report.failures] == ["port.no_address"]


async def test_a_privileged_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may listen anywhere: the operating system's answer to others stands in."""

    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.socket.socket, "bind", refuse)
    report = await look(port=443)
    assert "port.privileged" in [check.cause for check in report.failures]


async def test_a_key_of_another_certificate(certificate: Certificate, tmp_path: Path) -> None:
    other = broken.certificate(tmp_path)
    report = await look(certificate, keyfile=other.keyfile)
    assert [check.cause for check in report.failures] == ["tls.pair"]
    assert other.keyfile in report.failures[0].text


async def test_swapped_files(certificate: Certificate) -> None:
    swapped = Certificate(certificate.keyfile, certificate.certfile, "")
    report = await look(swapped)
    assert [check.cause for check in report.failures] == ["tls.pair"]


async def test_an_expired_certificate(tmp_path: Path) -> None:
    report = await look(broken.certificate(tmp_path, start=-9, end=-1))
    assert [check.cause for check in report.failures] == ["tls.expired"]


async def test_what_is_no_failure_but_bad(tmp_path: Path) -> None:
    """Readable by all, for another name, its chain incomplete; or nothing for browsers."""
    shown = broken.certificate(tmp_path / "a", names=("a.example",), signed_by="Intermediate")
    os.chmod(shown.keyfile, 0o644)
    report = await look(shown)
    assert not report.failures
    causes = [check.cause for check in report.warnings]
    assert {"tls.name", "tls.incomplete_chain", "tls.key_readable"} <= set(causes)
    report = await look(broken.certificate(tmp_path / "b", is_rsa=True))
    assert "tls.browsers" in [check.cause for check in report.warnings]


async def test_small_kernel_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SOCKET_BUFFER_SIZE", 2**40)
    report = await look()
    check = named(report, "buffers")
    assert (check.outcome, check.cause) == (Outcome.WARNING, "kernel.buffers")
    assert f"net.core.rmem_max={2**40}" in check.remedy


async def test_few_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FEW_DESCRIPTORS", 2**62)
    assert named(await look(), "descriptors").cause == "kernel.descriptors"


def test_the_command(certificate: Certificate) -> None:
    pair = ["--certfile", certificate.certfile, "--keyfile", certificate.keyfile]
    arguments = ["doctor", "--serve", *pair, "--host", "127.0.0.1", "--port", str(free_port())]
    result = CliRunner().invoke(main, [*arguments, "--json"], standalone_mode=False)
    assert result.return_value == 0
    told = json.loads(result.output)
    assert told["ok"] is True
    assert told["host"] == "127.0.0.1"
