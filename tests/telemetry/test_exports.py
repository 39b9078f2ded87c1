"""What Prometheus, OpenTelemetry and a reader of JSON get."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pywebtransport.exceptions import ServerError
from pywebtransport.telemetry import JsonLogFormatter, MetricsServer, instrument
from pywebtransport.telemetry.metrics import METRICS
from pywebtransport.telemetry.prometheus import MAX_SCRAPES
from tests.support.certificate import Certificate

from .test_snapshot import client_of, serving, until, url


async def http(address: tuple[str, int], request: bytes) -> tuple[str, str]:
    """The status line and the body of an answer."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.splitlines()[0] if head else "", body


async def test_prometheus_scrapes(engine: str, certificate: Certificate) -> None:
    async with serving(engine, certificate) as app, client_of(engine, certificate) as client:
        registry = CollectorRegistry()
        async with MetricsServer(app.server, port=0, registry=registry) as metrics:
            address = metrics.local_address
            assert address is not None
            await client.connect(url(app))
            await until(app, lambda s: s.sessions_accepted)
            status, text = await http(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status == "HTTP/1.1 200 OK"
            families = {each.name: each for each in text_string_to_metric_families(text)}
            assert families.keys() == {metric.name for metric in METRICS}
            assert families["webtransport_sessions_open"].samples[0].value == 1
            traffic = {
                s.labels["direction"]: s.value for s in families["webtransport_bytes"].samples
            }
            assert min(traffic.values()) > 1_000
            for request, answer in (
                (b"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
                (b"POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
                (b"HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"),
                (b"x" * 40_000, ""),
            ):
                assert (await http(address, request))[0] == answer
            with pytest.raises(ServerError, match=f"no metrics on 127.0.0.1:{address[1]}"):
                async with MetricsServer(app.server, port=address[1], registry=CollectorRegistry()):
                    pass
        assert not list(registry.collect()), "the server's figures leave with it"


async def test_scrapes_at_one_time_have_a_limit(engine: str, certificate: Certificate) -> None:
    async with serving(engine, certificate) as app:
        registry = CollectorRegistry()
        async with MetricsServer(app.server, port=0, registry=registry) as metrics:
            address = metrics.local_address
            assert address is not None
            request = b"GET /metrics HTTP/1.1\r\n\r\n"
            silent = [await asyncio.open_connection(*address) for _ in range(MAX_SCRAPES - 1)]
            assert (await http(address, request))[0] == "HTTP/1.1 200 OK"
            silent.append(await asyncio.open_connection(*address))
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b""
            silent.append((reader, writer))
        for reader, writer in silent:
            assert await reader.read() == b"", (
                "the end of the metrics is the end of its connections"
            )
            writer.close()
            await writer.wait_closed()


async def test_opentelemetry_reads_in_a_thread_of_its_own(
    engine: str, certificate: Certificate
) -> None:
    async with serving(engine, certificate) as app, client_of(engine, certificate) as client:
        reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[reader])
        async with instrument(app.server, meter_provider=provider, interval=0.01):
            await client.connect(url(app))
            while True:
                data = await asyncio.to_thread(reader.get_metrics_data)
                metrics = {
                    metric.name: [(dict(p.attributes), p.value) for p in metric.data.data_points]
                    for resource in data.resource_metrics
                    for scope in resource.scope_metrics
                    for metric in scope.metrics
                }
                if metrics["webtransport.sessions_open"] == [({}, 1)]:
                    break
                await asyncio.sleep(0.01)
        assert {"direction": "sent"} in [labels for labels, _ in metrics["webtransport.bytes"]]
        provider.shutdown()


async def test_json_log_has_the_fields_of_a_session(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    async with serving(engine, certificate) as app:
        async with client_of(engine, certificate) as client:
            session = await client.connect(url(app, "/sink?token=secret"))
            await until(app, lambda s: s.sessions_accepted)
            await session.close(7, reason='a "word"\nof mine')
        await until(app, lambda s: not s.sessions)
    lines: list[dict[str, Any]] = [
        json.loads(JsonLogFormatter().format(record)) for record in caplog.records
    ]
    (opened,) = [line for line in lines if line.get("event") == "session open"]
    (closed,) = [line for line in lines if line.get("event") == "session closed"]
    assert opened["session"] == closed["session"]
    assert opened["path"] == "/sink?...", "a query may hold a token"
    assert (closed["code"], closed["reason"], closed["by"]) == (7, 'a "word"\nof mine', "remote")
    assert closed["level"] == "info"
    assert closed["time"].endswith("Z")
    assert closed["seconds"] >= 0
    assert closed["message"].startswith('session closed: path="/sink?..." peer=127.0.0.1:')
    assert "secret" not in json.dumps(lines)


def test_json_log_has_tracebacks() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "f", 1, "it %s", ("failed",), info)
    line = json.loads(JsonLogFormatter().format(record))
    assert line["message"] == "it failed"
    assert "ValueError: x" in line["exception"]


def test_page_and_dashboard_name_every_metric() -> None:
    howto = Path(__file__).resolve().parents[2] / "docs" / "howto"
    page = (howto / "observability.md").read_text()
    dashboard = json.loads((howto / "grafana.json").read_text())
    asked = {
        word
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for word in re.findall(r"webtransport_\w+", target["expr"])
    }
    names = {metric.name + "_total" * metric.is_counter: metric.help for metric in METRICS}
    assert asked == names.keys()
    rows = dict(re.findall(r"^\| `(webtransport_\w+)` \|[^|]*\| (.*) \|$", page, re.MULTILINE))
    assert rows == names
