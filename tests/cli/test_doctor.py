"""``doctor URL``: it names the cause, for each way in which a server can be wrong."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.cli.diagnosis import reach, remote
from pywebtransport.cli.diagnosis.reach import Reply, ask
from pywebtransport.cli.diagnosis.remote import diagnose
from pywebtransport.cli.diagnosis.report import Check, Outcome, Report
from pywebtransport.cli.diagnosis.visit import STATUSES
from pywebtransport.cli.visitor import Visitor
from tests.cli import broken
from tests.support import raw_http3 as h3
from tests.support.certificate import Authority, Certificate, make_certificate
from tests.support.laboratory import free_port

WHOLE = {
    h3.ENABLE_CONNECT_PROTOCOL: 1,
    h3.H3_DATAGRAM: 1,
    h3.ENABLE_WEBTRANSPORT: 1,
}
"""The SETTINGS of a plain server of draft 02."""
CAUSES = re.compile(
    r"(?:datagrams|dns|flow|ipv6|kernel|origin|path|port|quic|session|settings|tls|udp|clock)"
    r"\.[a-z0-9_]+"
)
"""The words of causes that have two parts."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


async def examine(url: str, *, seconds: float = 15.0, **options: Any) -> Report:
    report = Report()
    await diagnose(report, Visitor(url=url, **{"timeout": 5.0, **options}), seconds=seconds)
    assert report.checks
    for check in report.checks:
        assert check.text
        bad = check.outcome in (Outcome.WARNING, Outcome.FAILURE)
        assert bool(check.cause) == bad, check
        assert not bad or check.remedy, check
    return report


def named(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def causes(report: Report) -> list[str]:
    return [check.cause for check in report.failures]


# the way to the server


async def test_a_name_that_does_not_exist() -> None:
    report = await examine("https://nothing-of-this-name.invalid/")
    assert causes(report) in (["dns.not_found"], ["dns.no_answer"])
    assert [check.name for check in report.checks] == ["dns"]


async def test_nobody_listens() -> None:
    report = await examine(f"https://127.0.0.1:{free_port()}/")
    assert causes(report) == ["udp.nobody_listens"]
    assert "not on TCP" in report.failures[0].remedy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is believed sooner."""
    monkeypatch.setattr(reach, "UDP_PATIENCE", 0.5)
    monkeypatch.setattr(remote, "HANDSHAKE_PATIENCE", 1.0)


@pytest.mark.usefixtures("impatient")
async def test_a_handshake_that_goes_nowhere() -> None:
    async with broken.half_a_server() as url:
        report = await examine(f"{url}/")
    assert named(report, "udp").outcome is Outcome.OK
    assert causes(report) == ["quic.stalled"]


@pytest.mark.usefixtures("impatient")
async def test_no_packet_comes_back_though_the_host_is_there() -> None:
    async with broken.silence(tcp=True) as url:
        started = time.monotonic()
        report = await examine(f"{url}/")
    assert causes(report) == ["udp.blocked"]
    assert report.failures[0].facts["tcp"] == "open"
    assert "UDP port" in report.failures[0].remedy
    assert time.monotonic() - started < 15


async def test_another_service_on_the_port() -> None:
    async with broken.another_service() as url:
        report = await examine(f"{url}/")
    assert causes(report) == ["udp.not_quic"]


async def test_one_of_two_addresses_is_a_warning(certificate: Certificate) -> None:
    async with broken.site(certificate) as url:
        port = url.rpartition(":")[2]
        report = await examine(f"https://localhost:{port}/ok", ca_certs=certificate.certfile)
    udp = named(report, "udp")
    assert not report.failures
    assert (udp.outcome, udp.cause) == (Outcome.WARNING, "udp.one_address")
    assert f"[::1]:{port}: refused" in udp.text


async def test_the_time_is_bounded() -> None:
    async with broken.silence() as url:
        started = time.monotonic()
        report = await examine(f"{url}/", seconds=0.5)
        assert time.monotonic() - started < 5
    assert causes(report) == ["time"]


async def test_every_server_answers_a_version_that_it_does_not_know(
    engine: str, certificate: Certificate
) -> None:
    from pywebtransport._engine.addresses import SocketAddress

    async with broken.site(certificate, engine=engine) as url:
        address = SocketAddress(2, ("127.0.0.1", int(url.rpartition(":")[2])))
        assert (await ask(address)).reply is Reply.QUIC


# TLS


async def test_a_server_that_speaks_something_else(certificate: Certificate) -> None:
    async with broken.raw_site(certificate, None, alpn="hq-interop", negotiates=False) as url:
        report = await examine(f"{url}/", is_trusting=True)
    assert causes(report) == ["alpn"]
    assert '"hq-interop"' in report.failures[0].text
    # It negotiated no version, and that is not its fault.
    assert named(report, "udp").outcome is Outcome.OK


async def test_trusted_by_its_hash_everything_is_well(
    engine: str, certificate: Certificate
) -> None:
    async with broken.site(certificate) as url:
        report = await examine(f"{url}/ok", hashes=(certificate.sha256,), engine=engine)
    assert not report.failures and not report.warnings, report.to_dict()
    assert named(report, "settings").facts["drafts"] == ["02", "07", "13", "15"]
    assert named(report, "browsers").facts["served"] == {
        "Chromium": True,
        "Firefox": True,
        "Safari": True,
    }
    assert named(report, "certificate").facts["sha256"] == certificate.sha256
    assert named(report, "datagrams").facts["max_size"] > 1000
    assert 0 < named(report, "path").facts["rtt"] < 5
    assert named(report, "origin").outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("made", "trust", "expected"),
    [
        ({"start": -9, "end": -1}, {}, "tls.expired"),
        ({"start": 1, "end": 9}, {}, "tls.not_yet_valid"),
        ({"names": ("other.example",)}, {}, "tls.name"),
        ({}, {}, "tls.self_signed"),
        ({"signed_by": "An Intermediate"}, {}, "tls.incomplete_chain"),
        ({}, {"hashes": ("00" * 32,)}, "tls.hash"),
        ({"end": 30}, {"hashes": "its own"}, "tls.lifetime"),
        ({"is_rsa": True}, {"hashes": "its own"}, "tls.key"),
    ],
    ids=lambda value: value.partition(".")[2] if isinstance(value, str) else "",
)
async def test_each_fault_of_a_certificate(
    engine: str, tmp_path: Path, made: dict[str, Any], trust: dict[str, Any], expected: str
) -> None:
    shown = broken.certificate(tmp_path, **made)
    if trust.get("hashes") == "its own":
        trust = {"hashes": (shown.sha256,)}
    async with broken.site(shown) as url:
        report = await examine(f"{url}/ok", engine=engine, **trust)
    assert expected in causes(report), report.to_dict()
    # The others of its kind are not claimed.
    claimed = {cause for cause in causes(report) if cause != "tls.self_signed"}
    assert claimed <= {expected}
    # What else there is to know was found out all the same.
    assert named(report, "session").outcome is Outcome.OK


async def test_an_expired_certificate_for_another_name_is_both(tmp_path: Path) -> None:
    shown = broken.certificate(tmp_path, start=-9, end=-1, names=("other.example",))
    async with broken.site(shown) as url:
        report = await examine(f"{url}/ok")
    assert {"tls.expired", "tls.name"} <= set(causes(report))


@pytest.fixture
def authority(tmp_path: Path) -> tuple[str, Certificate]:
    """A root of its own, and a certificate that it signed, shown with the root's."""
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    chain = tmp_path / "chain.pem"
    chain.write_text(Path(issued.certfile).read_text() + Path(authority.certfile).read_text())
    return authority.certfile, Certificate(str(chain), issued.keyfile, issued.sha256)


async def test_an_authority_that_this_machine_does_not_know(
    engine: str, authority: tuple[str, Certificate]
) -> None:
    root, shown = authority
    async with broken.site(shown) as url:
        report = await examine(f"{url}/ok", engine=engine)
        assert causes(report) == ["tls.unknown_issuer"]
        report = await examine(f"{url}/ok", engine=engine, ca_certs=root)
    assert causes(report) == []
    assert root in named(report, "trust").text


async def test_a_server_that_wants_a_certificate_of_its_client(
    certificate: Certificate, tmp_path: Path
) -> None:
    """The handshake is complete for the client by then, and fails on the server."""
    authority = Authority(tmp_path)
    own = authority.issue("client")
    options = {"verify_mode": ssl.CERT_REQUIRED, "ca_certs": authority.certfile}
    async with broken.site(certificate, engine="native", **options) as url:
        without = await examine(f"{url}/ok", is_trusting=True)
        with_it = await examine(
            f"{url}/ok", is_trusting=True, certfile=own.certfile, keyfile=own.keyfile
        )
    assert causes(without) == ["tls.client_certificate"]
    assert causes(with_it) == []


async def test_a_server_that_is_full(certificate: Certificate) -> None:
    async with (
        broken.site(certificate, engine="native", max_connections=1) as url,
        WebTransportClient(config=ClientConfig(ca_certs=certificate.certfile)) as client,
    ):
        await client.connect(f"{url}/ok")
        report = await examine(f"{url}/ok", is_trusting=True)
    assert causes(report) == ["quic.refused"]


async def test_what_browsers_refuse_by_hash_is_a_warning(tmp_path: Path) -> None:
    shown = broken.certificate(tmp_path, is_rsa=True, end=300)
    async with broken.site(shown) as url:
        report = await examine(f"{url}/ok", ca_certs=shown.certfile)
    check = named(report, "browser trust")
    assert (check.outcome, check.cause) == (Outcome.WARNING, "tls.browsers")
    assert "RSA 2048" in check.text


async def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    shown = broken.certificate(tmp_path, start=-9, end=0.5)
    async with broken.site(shown) as url:
        report = await examine(f"{url}/ok", hashes=(shown.sha256,))
    assert named(report, "dates").cause == "tls.expires_soon"
    assert not report.failures


# HTTP/3


async def test_http3_without_webtransport(certificate: Certificate) -> None:
    async with broken.raw_site(certificate, {h3.QPACK_MAX_TABLE_CAPACITY: 0}) as url:
        report = await examine(f"{url}/", is_trusting=True)
    assert causes(report) == ["settings.no_webtransport"]


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        (b"\x00" + h3.frame(h3.GOAWAY, b"\x00"), "settings.malformed"),
        (b"\x00" + h3.frame(h3.SETTINGS, b"\x02\x01"), "settings.malformed"),
    ],
    ids=["another frame", "a setting of HTTP/2"],
)
async def test_a_control_stream_that_is_wrong(
    certificate: Certificate, opening: bytes, expected: str
) -> None:
    async with broken.raw_site(certificate, None, opening=opening) as url:
        report = await examine(f"{url}/", is_trusting=True, timeout=1.0)
    assert causes(report) == [expected]


@pytest.mark.usefixtures("impatient")
async def test_no_settings_at_all(certificate: Certificate) -> None:
    async with broken.raw_site(certificate, None) as url:
        report = await examine(f"{url}/", is_trusting=True, timeout=1.0)
    assert causes(report) == ["settings.missing"]


@pytest.mark.parametrize("draft", ["02", "07", "13", "15"])
async def test_the_drafts_and_browsers_of_a_server(certificate: Certificate, draft: str) -> None:
    settings = {**h3.SETTINGS_OF[draft], h3.ENABLE_CONNECT_PROTOCOL: 1}
    async with broken.raw_site(certificate, settings, reset_stream_at=True) as url:
        report = await examine(f"{url}/", is_trusting=True)
    assert named(report, "settings").facts["drafts"] == [draft]
    assert named(report, "settings").outcome is Outcome.OK
    old = draft == "02"
    assert named(report, "browsers").facts["served"] == {
        "Chromium": old,
        "Firefox": old,
        "Safari": draft == "07",
    }
    assert named(report, "browsers").outcome is Outcome.WARNING


async def test_what_a_draft_demands_beside_its_setting(certificate: Certificate) -> None:
    async with broken.raw_site(certificate, h3.SETTINGS_OF["15"]) as url:
        report = await examine(f"{url}/", is_trusting=True)
    check = named(report, "settings")
    assert (check.outcome, check.cause) == (Outcome.WARNING, "settings.incomplete")
    assert "ENABLE_CONNECT_PROTOCOL=1" in check.text
    assert "reset_stream_at" in check.text


# the answer


@pytest.mark.parametrize(
    ("path", "expected", "words"),
    [
        ("404", "session.not_found", "path"),
        ("nowhere", "session.not_found", "path"),
        ("401", "session.unauthorized", "--header"),
        ("403", "session.forbidden", "--origin"),
        ("429", "session.too_many", "Retry-After says (17)"),
        ("302", "session.redirect", "Location"),
        ("503", "session.unavailable", "log"),
        ("599", "session.server_error", "log"),
    ],
)
async def test_each_status(
    engine: str, certificate: Certificate, path: str, expected: str, words: str
) -> None:
    async with broken.site(certificate) as url:
        report = await examine(f"{url}/{path}", ca_certs=certificate.certfile, engine=engine)
    assert causes(report) == [expected]
    assert words in report.failures[0].remedy
    assert report.failures[0].facts["status"] == (int(path) if path.isdecimal() else 404)


async def test_a_page_that_is_not_let_in(engine: str, certificate: Certificate) -> None:
    async with broken.site(certificate, allowed_origins=["https://good.example"]) as url:
        bad, good = [
            await examine(
                f"{url}/ok",
                ca_certs=certificate.certfile,
                engine=engine,
                headers={"origin": f"https://{name}.example"},
            )
            for name in ("bad", "good")
        ]
    assert causes(bad) == ["origin.refused"]
    assert "https://bad.example" in bad.failures[0].remedy
    assert named(good, "origin").outcome is Outcome.OK


async def test_a_403_that_has_nothing_to_do_with_the_page(certificate: Certificate) -> None:
    async with broken.site(certificate, allowed_origins=["*"]) as url:
        report = await examine(
            f"{url}/403", ca_certs=certificate.certfile, headers={"origin": "https://a.example"}
        )
    assert causes(report) == ["session.forbidden"]


async def test_no_answer_to_the_request(certificate: Certificate) -> None:
    async with broken.site(certificate) as url:
        report = await examine(f"{url}/slow", ca_certs=certificate.certfile, timeout=0.8)
    assert causes(report) == ["session.no_answer"]


async def test_a_session_that_ends_at_once_is_a_warning(certificate: Certificate) -> None:
    async with broken.site(certificate) as url:
        report = await examine(f"{url}/brief", ca_certs=certificate.certfile)
    assert not report.failures
    assert [check.cause for check in report.warnings] == ["session.ended"]
    assert 'code 7, "that was all"' in report.warnings[0].text


# what a session can do


async def test_no_datagrams(engine: str, certificate: Certificate) -> None:
    async with broken.raw_site(certificate, WHOLE, max_datagram_frame_size=None) as url:
        report = await examine(f"{url}/", is_trusting=True, engine=engine)
    assert not report.failures
    assert named(report, "datagrams").cause == "datagrams.refused"


async def test_small_datagrams(engine: str, certificate: Certificate) -> None:
    async with broken.raw_site(certificate, WHOLE, max_datagram_frame_size=200) as url:
        report = await examine(f"{url}/", is_trusting=True, engine=engine)
    check = named(report, "datagrams")
    assert check.cause == "datagrams.small"
    assert 180 < check.facts["max_size"] < 200


async def test_one_session_on_a_connection(engine: str, certificate: Certificate) -> None:
    async with broken.raw_site(certificate, WHOLE, sessions=1) as url:
        report = await examine(f"{url}/", is_trusting=True, engine=engine)
    assert not report.failures
    assert named(report, "sessions").cause == "flow.one_session"


async def test_no_stream_may_be_opened(engine: str, certificate: Certificate) -> None:
    async with broken.raw_site(certificate, WHOLE, max_streams_bidi=1, gives_credit=False) as url:
        report = await examine(f"{url}/", is_trusting=True, engine=engine)
    assert causes(report) == ["flow.no_streams"]


async def test_the_protocol_that_nobody_chose(certificate: Certificate) -> None:
    async with broken.site(certificate, wt_available_protocols=["chat.v2"]) as url:
        chosen, missed = [
            await examine(f"{url}/ok", ca_certs=certificate.certfile, protocols=(name,))
            for name in ("chat.v2", "chat.v1")
        ]
    assert named(chosen, "session").facts["protocol"] == "chat.v2"
    assert [check.cause for check in missed.warnings] == ["session.protocol"]


# the command


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pywebtransport", "doctor", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_command_says_it_in_lines_and_in_json(certificate: Certificate) -> None:
    async with broken.site(certificate) as url:
        trusted = ["--hash", certificate.sha256]
        (good, lines, _), (bad, text, _) = await asyncio.gather(
            run(f"{url}/ok", *trusted), run(f"{url}/404", "--json", *trusted)
        )
    assert good == 0
    assert lines.splitlines()[0].split()[:2] == ["ok", "dns"]
    assert lines.endswith("Nothing is wrong.\n")
    assert "\x1b[" not in lines
    assert bad == 1
    told = json.loads(text)
    assert (told["ok"], told["cause"]) == (False, "session.not_found")
    assert told["url"] == f"{url}/404"
    assert {"name", "outcome", "text", "cause", "remedy", "facts"} == set(told["checks"][0])


async def test_a_certificate_cannot_steer_a_terminal(tmp_path: Path) -> None:
    shown = broken.certificate(tmp_path, subject="\x1b[2Jgone\nok  trust")
    async with broken.site(shown) as url:
        code, lines, _ = await run(f"{url}/ok", "--hash", shown.sha256)
    assert code == 0
    assert "\x1b" not in lines
    assert "\\x1b[2Jgone" in lines
    assert "\nok  trust" not in lines


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "give a URL, or --serve"),
        (["example.org/x"], "did you mean https://example.org/x?"),
        (["http://example.org/"], "the scheme must be 'https'"),
        (["https://example.org/", "--hash", "abc"], "64 hexadecimal digits"),
        (["https://example.org/", "--header", "x"], "write name:value"),
        (["https://example.org/", "--ca", "nothing.pem"], "does not exist"),
        (
            ["https://example.org/", "--insecure", "--hash", "00" * 32],
            "leave out --ca, --hash and --dev",
        ),
    ],
)
def test_asked_wrongly(wrong: list[str], words: str) -> None:
    from click.testing import CliRunner

    from pywebtransport.cli import main

    result = CliRunner().invoke(main, ["doctor", *wrong])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_the_page_names_every_cause() -> None:
    root = Path(__file__).resolve().parents[2]
    code = "".join(
        path.read_text() for path in (root / "python/pywebtransport/cli/diagnosis").glob("*.py")
    )
    known = {word for word in re.findall(r'"([a-z0-9_.]+)"', code) if CAUSES.fullmatch(word)}
    known |= {f"session.{word}" for word, _ in STATUSES.values()}
    known |= {f"tls.{kind}" for kind in ("hash", "key", "lifetime", "unknown_issuer")}
    page = (root / "docs/howto/doctor.md").read_text()
    told = {word for word in re.findall(r"`([a-z0-9_.]+)`", page) if CAUSES.fullmatch(word)}
    assert told == known
