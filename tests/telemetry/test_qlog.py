"""qlog: both engines, both ends, while a connection lives; and nothing depends on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport._engine.aioquic_qlog import QlogDirectory
from pywebtransport.exceptions import ConfigurationError, StreamError
from tests.faults.relay import Path as Faults
from tests.faults.relay import relay_to
from tests.support.certificate import Certificate

PATIENCE = 30.0
SIDES = ["client", "server"]
SENT, RECEIVED = "transport:packet_sent", "transport:packet_received"
METRICS, LOST = "recovery:metrics_updated", "recovery:packet_lost"


@pytest.fixture(params=["native", "aioquic"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@contextlib.asynccontextmanager
async def session_over(
    engine: str, certificate: Certificate, faults: Faults | None = None, **fields: Any
) -> AsyncIterator[Any]:
    """A client's session with a server that echoes; ``fields`` are for both."""
    config = ServerConfig(
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        engine=engine,
        bind_port=0,
        **fields,
    )
    app = ServerApp(config=config)

    @app.route("/")
    async def echo(session: Any) -> None:
        async for stream in session.incoming_streams():
            with contextlib.suppress(StreamError):
                data = await stream.read_all()
                if hasattr(stream, "write"):
                    await stream.write(data, end_stream=True)

    client = WebTransportClient(
        config=ClientConfig(engine=engine, server_certificate_hashes=[certificate.sha256], **fields)
    )
    async with asyncio.timeout(PATIENCE), app:
        await app.server.listen(host="127.0.0.1")
        address = app.server.local_address
        assert address is not None
        async with relay_to(("127.0.0.1", address[1]), faults or Faults()) as relay, client:
            yield await client.connect(url=f"https://127.0.0.1:{relay.address[1]}/")


async def ask(session: Any, data: bytes) -> None:
    stream = await session.create_bidirectional_stream()
    await stream.write(data, end_stream=True)
    assert await stream.read_all() == data


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


def records(directory: Path, side: str) -> list[dict[str, Any]]:
    """The only connection's, as far as they are written."""
    (path,) = directory.glob(f"*_{side}.sqlog")
    first, *texts = path.read_text().split("\x1e")
    assert not first and all(text.endswith("\n") for text in texts)
    records = [json.loads(text) for text in texts]
    assert path.name == f"{records[0]['trace']['common_fields']['ODCID']}_{side}.sqlog"
    return records


def events(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record["data"] for record in records[1:] if record["name"] == name]


def frames(records: list[dict[str, Any]], event: str) -> Iterator[dict[str, Any]]:
    for data in events(records, event):
        yield from data["frames"]


def frame_types(records: list[dict[str, Any]], event: str) -> set[str]:
    return {frame["frame_type"] for frame in frames(records, event)}


async def test_both_ends_tell_of_every_packet_while_the_connection_lives(
    engine: str, certificate: Certificate, directory: Path
) -> None:
    async with session_over(engine, certificate, qlog_dir=str(directory)) as session:
        await ask(session, b"nothing of this is logged")
        await session.send_datagram(b"seven b")
        doomed = await session.create_unidirectional_stream()
        await doomed.write(b"x")
        await doomed.reset(error_code=5)
        unread = await session.create_bidirectional_stream()
        await unread.write(b"x", end_stream=True)
        await unread.stop_receiving(error_code=6)
        await ask(session, b"so that all of it is sent")
        living = {side: records(directory, side) for side in SIDES}
        for side in SIDES:
            check_header(living[side][0], side, engine)
            check_events(living[side])
    assert {mode(path) for path in files(directory)} == {0o600}
    assert mode(directory) == 0o700
    client, server = (records(directory, side) for side in SIDES)
    assert (
        client[0]["trace"]["common_fields"]["ODCID"]
        == (server[0]["trace"]["common_fields"]["ODCID"])
    )
    told = {"stream", "datagram", "ack", "crypto", "stop_sending", "connection_close"}
    assert told <= frame_types(client, SENT)
    assert told <= frame_types(server, RECEIVED) | {"connection_close"}
    assert {"stream", "ack", "crypto", "handshake_done"} <= frame_types(server, SENT)
    for log, event in ((client, SENT), (server, RECEIVED)):
        (reset,) = (f for f in frames(log, event) if f["frame_type"] == "reset_stream_at")
        assert reset["stream_id"] == doomed.stream_id
        assert 0 < reset["reliable_size"] <= reset["final_size"]
        assert 7 + 1 in {f["length"] for f in frames(log, event) if f["frame_type"] == "datagram"}
        sent = [f for f in frames(log, event) if f["frame_type"] == "stream"]
        assert any(f["fin"] and f["length"] == 25 for f in sent) or any(
            f["fin"] and f["offset"] + f["length"] > 25 for f in sent
        )
    for path in files(directory):
        text = path.read_text()
        assert "nothing of this" not in text
        assert "token" not in text.replace('"new_token"', "")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_header(header: dict[str, Any], side: str, engine: str) -> None:
    assert header["qlog_version"] == "0.3"
    assert header["qlog_format"] == "JSON-SEQ"
    trace = header["trace"]
    assert trace["vantage_point"] == {"name": f"pywebtransport {engine}", "type": side}
    assert trace["common_fields"]["time_format"] == "relative"
    assert trace["common_fields"]["reference_time"] > 1.7e12


def check_events(log: list[dict[str, Any]]) -> None:
    """What qvis needs is there."""
    times = [record["time"] for record in log[1:]]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < PATIENCE * 1000
    # It would come with every packet, and says nothing to either end.
    assert "connectivity:spin_bit_updated" not in {record["name"] for record in log[1:]}
    for event in (SENT, RECEIVED):
        packets = events(log, event)
        assert {"initial", "handshake", "1RTT"} == {p["header"]["packet_type"] for p in packets}
        for packet in packets:
            assert packet["header"]["packet_number"] >= 0
            assert packet["raw"]["length"] > 20
            assert packet["frames"]
    metrics = events(log, METRICS)
    assert any(data.get("congestion_window", 0) > 1200 for data in metrics)
    assert any(data.get("bytes_in_flight", 0) > 0 for data in metrics)
    # In milliseconds; the relay is on this machine.
    assert any(0.01 < data.get("latest_rtt", 0) < PATIENCE * 1000 for data in metrics)
    assert all("cwnd" not in data for data in metrics)


async def test_lost_packets_are_named(
    engine: str, certificate: Certificate, directory: Path
) -> None:
    faults = Faults(loss=0.1, delay=0.005)
    async with session_over(engine, certificate, faults, qlog_dir=str(directory)) as session:
        await ask(session, bytes(200_000))
    for side in SIDES:
        log = records(directory, side)
        numbers = {
            event: {
                (data["header"]["packet_type"], data["header"]["packet_number"])
                for data in events(log, event)
            }
            for event in (SENT, LOST)
        }
        assert numbers[LOST]
        assert numbers[LOST] <= numbers[SENT]


async def test_the_environment_names_the_directory_and_the_option_has_the_last_word(
    engine: str,
    certificate: Certificate,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("QLOGDIR", str(directory))
    async with session_over(engine, certificate, qlog_dir="") as session:
        await ask(session, b"x")
    assert not files(directory)
    for count in (2, 4):
        async with session_over(engine, certificate) as session:
            await ask(session, b"x")
        assert len(files(directory)) == count
    said = [record for record in caplog.records if str(directory) in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]
    monkeypatch.delenv("QLOGDIR")
    async with session_over(engine, certificate) as session:
        await ask(session, b"x")
    assert len(files(directory)) == 4


async def test_a_directory_that_cannot_be_made_is_told_once_and_no_connection_suffers(
    engine: str, certificate: Certificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "logs"
    async with session_over(engine, certificate, qlog_dir=str(directory)) as session:
        await ask(session, b"x")
    said = [text for text in caplog.messages if str(directory) in text]
    assert said == [f"qlog is not written: {directory}: Not a directory"]


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    """On the native engine: rust/quic/src/qlog.rs."""
    logs = QlogDirectory(str(tmp_path))
    first = logs.start_trace(is_client=False, odcid=b"twice")
    (path,) = files(tmp_path)
    before = path.read_bytes()
    assert first is not None
    assert logs.start_trace(is_client=False, odcid=b"twice") is None
    assert path.read_bytes() == before


def test_a_connection_that_is_let_go_gives_its_descriptor_back(tmp_path: Path) -> None:
    """Not only at its end, and what was held back is in the file."""
    trace = QlogDirectory(str(tmp_path)).start_trace(is_client=True, odcid=b"gone")
    assert trace is not None
    trace.log_event(category="transport", event="packet_received", data={"frames": []})
    descriptor = trace._file
    assert descriptor is not None
    del trace
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert events(records(tmp_path, "client"), RECEIVED) == [{"frames": []}]


def test_a_directory_is_a_path() -> None:
    with pytest.raises(ConfigurationError, match="qlog_dir"):
        ClientConfig(qlog_dir=7)  # type: ignore[arg-type]


FULL = """
import asyncio, logging, resource, sys, threading
from pathlib import Path
from tests.support.certificate import make_certificate
from tests.telemetry.test_qlog import ask, session_over

told = threading.Event()

class Seen(logging.Handler):
    def emit(self, record):
        print(record.getMessage())
        if "is not written" in record.getMessage():
            told.set()

async def main(engine, folder):
    certificate = make_certificate(Path(folder))
    # What a full disk does to a write, a limit on the size of files does, too.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    async with session_over(engine, certificate, qlog_dir=folder + "/logs") as session:
        await ask(session, bytes(300_000))
        await asyncio.to_thread(told.wait, 10)
        await ask(session, bytes(300_000))

logging.getLogger("pywebtransport").addHandler(Seen())
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_is_told_once_and_no_connection_suffers(engine: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, engine, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failures = [line for line in done.stdout.splitlines() if "is not written" in line]
    assert len(failures) == 1, done.stdout
    assert str(tmp_path / "logs") in failures[0] and "File too large" in failures[0]
    assert [path.stat().st_size for path in (tmp_path / "logs").iterdir()] == [3000, 3000]
