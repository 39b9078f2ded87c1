"""Monitors: samples, bounded histories, alerts.

The targets are real classes whose figures a test dictates. A target announces that it is sampled;
when it is sampled again, everything about the sample before has been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport.client import ClientDiagnostics, ClientStats, WebTransportClient
from pywebtransport.config import ServerConfig
from pywebtransport.datagram import (
    DatagramStats,
    DatagramTransportDiagnostics,
    WebTransportDatagramTransport,
)
from pywebtransport.monitor import ClientMonitor, DatagramMonitor, ServerMonitor
from pywebtransport.server import ServerDiagnostics, ServerStats, WebTransportServer
from pywebtransport.types import ConnectionState

INTERVAL = 0.0005


class Sampled:
    """Counts how often it was looked at, and wakes whoever waits for a number of times."""

    looks = 0

    def looked_at(self) -> None:
        self.looks += 1
        self.look.set()

    async def samples_taken(self, number: int) -> None:
        """Until ``number`` more samples have been taken and judged."""
        wanted = self.looks + number + 1
        async with asyncio.timeout(10):
            while self.looks < wanted:
                self.look.clear()
                await self.look.wait()

    @property
    def look(self) -> asyncio.Event:
        return self.__dict__.setdefault("_look", asyncio.Event())


class Client(Sampled, WebTransportClient):
    def __init__(self) -> None:
        super().__init__()
        self.figures = ClientStats()
        self.failure: Exception | None = None

    async def diagnostics(self) -> ClientDiagnostics:
        self.looked_at()
        if self.failure is not None:
            raise self.failure
        return ClientDiagnostics(
            stats=self.figures, connection_states={ConnectionState.CONNECTED: 2}
        )


class Server(Sampled, WebTransportServer):
    def __init__(self) -> None:
        super().__init__(config=ServerConfig())
        self.figures = ServerStats()
        self.active = 0
        self.serving = True

    @property
    def is_serving(self) -> bool:
        return self.serving

    async def diagnostics(self) -> ServerDiagnostics:
        self.looked_at()
        return ServerDiagnostics(
            stats=self.figures,
            connection_states={ConnectionState.CONNECTED: self.active},
            session_states={},
            is_serving=self.serving,
            certfile_path="",
            keyfile_path="",
            max_connections=10,
        )


class Transport(Sampled, WebTransportDatagramTransport):
    def __init__(self) -> None:
        super().__init__(session_id="s", datagram_sender=lambda data: None, max_datagram_size=1200)
        self.figures = DatagramStats(session_id="s", created_at=0.0)
        self.waiting = 0
        self.next_sample: Callable[[int], None] = lambda look: None

    @property
    def diagnostics(self) -> DatagramTransportDiagnostics:
        self.looked_at()
        self.next_sample(self.looks)
        return DatagramTransportDiagnostics(stats=self.figures, queue_stats={}, is_closed=False)

    def get_send_buffer_size(self) -> int:
        return self.waiting


def kinds(alerts: list[dict[str, Any]]) -> list[str]:
    return [alert["type"] for alert in alerts]


@pytest.mark.parametrize("monitor", [ClientMonitor, DatagramMonitor, ServerMonitor])
def test_wrong_target(monitor: Any) -> None:
    with pytest.raises(TypeError, match=r"got (builtins\.)?object"):
        monitor(object())


@pytest.mark.parametrize(
    ("monitor", "target"),
    [(ClientMonitor, Client), (DatagramMonitor, Transport), (ServerMonitor, Server)],
)
async def test_samples_from_entering_to_leaving(monitor: Any, target: Any) -> None:
    watched = target()
    watching = monitor(watched, monitoring_interval=INTERVAL)
    before = asyncio.all_tasks()
    assert not watching.is_monitoring
    assert watching.get_metrics_history() == []
    async with watching:
        assert watching.is_monitoring
        await watched.samples_taken(3)
    assert not watching.is_monitoring
    assert asyncio.all_tasks() == before
    history = watching.get_metrics_history()
    assert len(history) >= 3
    assert [sample["timestamp"] for sample in history] == sorted(
        sample["timestamp"] for sample in history
    )
    assert watching.get_metrics_history(limit=1) == history[-1:]
    assert watching.get_metrics_history(limit=0) == []
    watching.clear_history()
    assert watching.get_metrics_history() == watching.get_alerts() == []


@pytest.mark.parametrize(
    ("monitor", "target"),
    [(ClientMonitor, Client), (DatagramMonitor, Transport), (ServerMonitor, Server)],
)
async def test_first_sample_is_taken_at_once(monitor: Any, target: Any) -> None:
    async with monitor(target()) as watching:
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(watching.get_metrics_history()) == 1
    with pytest.raises(ValueError, match="monitoring_interval"):
        monitor(target(), monitoring_interval=0)


async def test_histories_are_bounded() -> None:
    client = Client()

    class Worse(ClientStats):
        """Another message in each sample."""

        @property
        def avg_connect_time(self) -> float:
            return 10.0 + client.looks

    client.figures = Worse()
    async with ClientMonitor(client, monitoring_interval=INTERVAL) as monitor:
        await client.samples_taken(125)
    assert len(monitor.get_metrics_history(limit=1000)) == 120
    assert len(monitor.get_metrics_history()) == 100
    alerts = monitor.get_alerts(limit=1000)
    assert len(alerts) == len(monitor.get_metrics_summary()["recent_alerts"]) == 100
    assert monitor.get_alerts() == alerts[-25:]
    assert all(set(alert) == {"type", "message", "timestamp"} for alert in alerts)


async def test_sample_that_fails_is_logged_and_the_next_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    client.failure = RuntimeError("figures are broken")
    async with ClientMonitor(client, monitoring_interval=INTERVAL) as monitor:
        await client.samples_taken(1)
        assert monitor.get_metrics_history() == []
        client.failure = None
        await client.samples_taken(1)
    assert monitor.get_metrics_history()
    assert "figures are broken" in caplog.text


# clients


async def test_client_summary() -> None:
    client = Client()
    monitor = ClientMonitor(client, monitoring_interval=INTERVAL)
    assert monitor.get_metrics_summary() == {
        "latest_metrics": {},
        "recent_alerts": [],
        "is_monitoring": False,
    }
    async with monitor:
        await client.samples_taken(1)
        summary = monitor.get_metrics_summary()
    assert summary["latest_metrics"]["stats"] == client.figures.to_dict() | {
        "uptime": summary["latest_metrics"]["stats"]["uptime"]
    }
    assert summary["latest_metrics"]["connection_states"] == {"connected": 2}
    assert summary["is_monitoring"] is True


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"connections_attempted": 10, "connections_successful": 0}, []),
        ({"connections_attempted": 20, "connections_successful": 18}, []),
        ({"connections_attempted": 20, "connections_successful": 17}, ["low_success_rate"]),
        ({"connections_successful": 1, "total_connect_time": 5.0}, []),
        ({"connections_successful": 1, "total_connect_time": 5.1}, ["slow_connections"]),
    ],
)
async def test_client_alerts(figures: dict[str, Any], expected: list[str]) -> None:
    client = Client()
    client.figures = ClientStats(**figures)
    async with ClientMonitor(client, monitoring_interval=INTERVAL) as monitor:
        await client.samples_taken(3)
        assert kinds(monitor.get_alerts()) == expected
        assert monitor.get_metrics_summary()["recent_alerts"] == monitor.get_alerts()


async def test_client_alerts_of_two_kinds_are_not_repeated_in_turn() -> None:
    client = Client()
    client.figures = ClientStats(
        connections_attempted=20, connections_successful=1, total_connect_time=6.0
    )
    async with ClientMonitor(client, monitoring_interval=INTERVAL) as monitor:
        await client.samples_taken(3)
        assert kinds(monitor.get_alerts()) == ["low_success_rate", "slow_connections"]
        client.figures.connections_successful = 2
        await client.samples_taken(2)
        assert kinds(monitor.get_alerts()) == [
            *("low_success_rate", "slow_connections", "low_success_rate")
        ]


# servers


def server_figures(accepted: int, rejected: int) -> ServerStats:
    return ServerStats(connections_accepted=accepted, connections_rejected=rejected)


@pytest.mark.parametrize(
    ("serving", "accepted", "rejected", "active", "status"),
    [
        (False, 0, 0, 0, "unhealthy"),
        (True, 8, 3, 1, "degraded"),
        (True, 5, 5, 1, "healthy"),
        (True, 18, 2, 1, "healthy"),
        (True, 0, 0, 0, "idle"),
    ],
)
async def test_server_health(
    serving: bool, accepted: int, rejected: int, active: int, status: str
) -> None:
    server = Server()
    server.serving, server.active = serving, active
    server.figures = server_figures(accepted, rejected)
    monitor = ServerMonitor(server, monitoring_interval=INTERVAL)
    assert monitor.get_health_status()["status"] == "unknown"
    assert monitor.get_current_metrics() is None
    async with monitor:
        await server.samples_taken(2)
        assert monitor.get_health_status()["status"] == status
    metrics = monitor.get_current_metrics()
    assert metrics is not None
    assert metrics["stats"] == server.figures.to_dict() | {"connections": {"active": active}}
    alerts = monitor.get_alerts()
    assert [alert["status"] for alert in alerts] == (
        [status] if status in ("unhealthy", "degraded") else []
    )
    assert all(set(alert) == {"timestamp", "status", "reason"} for alert in alerts)


async def test_server_alerts_again_when_the_reason_changes() -> None:
    server = Server()
    server.figures = server_figures(8, 3)
    async with ServerMonitor(server, monitoring_interval=INTERVAL) as monitor:
        await server.samples_taken(2)
        server.serving = False
        await server.samples_taken(2)
        assert [alert["status"] for alert in monitor.get_alerts()] == ["degraded", "unhealthy"]
        assert len(monitor.get_alerts(limit=1)) == 1


# datagrams


async def test_datagram_sample() -> None:
    transport = Transport()
    transport.figures.datagrams_sent = 4
    transport.figures.total_send_time = 1.0
    transport.waiting = 7
    async with DatagramMonitor(transport, monitoring_interval=INTERVAL) as monitor:
        await transport.samples_taken(1)
    sample = monitor.get_samples()[-1]
    assert sample == {
        "timestamp": sample["timestamp"],
        "datagrams_sent": 4,
        "datagrams_received": 0,
        "send_success_rate": 1.0,
        "avg_send_time": 0.25,
        "outgoing_queue_size": 7,
    }
    assert monitor.get_samples(limit=0) == []
    assert monitor.get_samples(limit=1) == [sample]


async def test_datagram_histories_have_the_asked_size() -> None:
    transport = Transport()
    transport.waiting = 100
    async with DatagramMonitor(
        transport, monitoring_interval=INTERVAL, samples_maxlen=3, alerts_maxlen=2
    ) as monitor:
        await transport.samples_taken(5)
    assert len(monitor.get_samples()) == 3
    assert len(monitor.get_alerts()) == 2


@pytest.mark.parametrize(
    ("waiting", "failures", "expected"),
    [
        (90, 0, set()),
        (91, 0, {"high_queue_size"}),
        (0, 25, set()),
        (0, 26, {"low_success_rate"}),
    ],
)
async def test_datagram_alerts_are_repeated(
    waiting: int, failures: int, expected: set[str]
) -> None:
    transport = Transport()
    transport.waiting = waiting
    transport.figures.datagrams_sent, transport.figures.send_failures = 100, failures
    async with DatagramMonitor(transport, monitoring_interval=INTERVAL) as monitor:
        await transport.samples_taken(3)
        alerts = kinds(monitor.get_alerts())
    assert set(alerts) == expected
    assert not expected or len(alerts) >= 3


@pytest.mark.parametrize(
    ("first", "second", "rises"),
    [(1.0, 1.25, False), (1.0, 1.26, True), (0.0, 0.1, True), (0.0, 0.0, False)],
)
async def test_rising_send_time(first: float, second: float, rises: bool) -> None:
    transport = Transport()
    transport.figures.datagrams_sent = 1

    def next_sample(look: int) -> None:
        transport.figures.total_send_time = first if look <= 5 else second

    transport.next_sample = next_sample
    async with DatagramMonitor(transport, monitoring_interval=INTERVAL) as monitor:
        await transport.samples_taken(8)
        assert monitor.get_alerts() == []
        await transport.samples_taken(2)
        assert set(kinds(monitor.get_alerts())) == ({"increasing_send_time"} if rises else set())
