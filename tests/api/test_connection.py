"""Connections: facts, sessions on them, the end, and the choice among several."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.connection import (
    ConnectionDiagnostics,
    ConnectionInfo,
    ConnectionLoadBalancer,
    WebTransportConnection,
)
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    SessionError,
    TimeoutError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.types import ConnectionState, EventType, SessionState
from tests.api.ends import connections, ends, turns
from tests.api.memory_engine import memory_pair

# Facts.


async def test_facts_of_a_new_connection() -> None:
    connection = WebTransportConnection(config=ClientConfig())
    other = WebTransportConnection(config=ServerConfig())
    assert connection.connection_id.startswith("conn_")
    assert connection.connection_id == connection.connection_id != other.connection_id
    assert connection.handle != other.handle
    assert (connection.is_client, other.is_client) == (True, False)
    assert (connection.idle_timeout, other.idle_timeout) == (None, 60.0)
    assert connection.state is ConnectionState.IDLE
    assert (connection.local_address, connection.local_addresses) == (None, [])
    assert connection.last_activity_time == 0.0
    assert connection.diagnostics.stats.uptime == 0.0
    await connection.wait_closed()
    with pytest.raises(asyncio.TimeoutError):
        await connection.wait_ready(timeout=0.01)
    await connection.close()
    assert connection.is_closed
    with pytest.raises(ConnectionError):
        await connection.create_session_optimistic(authority="test", path="/")


async def test_facts_of_a_connection() -> None:
    async with ends() as both:
        connection = both.server_connection
        assert connection.is_connected
        assert connection.remote_address == ("192.0.2.1", 4433)
        assert connection.local_addresses == [("192.0.2.2", 4433)]
        await connection.wait_ready()
        both.server_engine.received = 5
        assert connection.last_activity_time > 0
        diagnostics = connection.diagnostics
        assert diagnostics.stats.state is ConnectionState.CONNECTED
        assert diagnostics.rtt == 0.01
        assert diagnostics.issues == []
        assert diagnostics.stats.to_dict()["packets_received"] == 5
        connection.record_activity()
    assert connection.remote_address == ("192.0.2.1", 4433), "known after the end"
    assert connection.diagnostics.stats.closed_at is not None


async def test_accept_takes_an_engines_connection() -> None:
    client_engine, server_engine = memory_pair()
    told: list[Event] = []
    connection = WebTransportConnection(config=ServerConfig())
    connection.on(event_type=EventType.CONNECTION_ESTABLISHED, handler=told.append)
    waiting = asyncio.create_task(connection.wait_ready())
    await turns()
    await connection.accept(transport=None, protocol=server_engine)
    await waiting
    await turns()
    assert told[0].data == {"connection_id": connection.connection_id}
    with pytest.raises(ConnectionError, match="new connection"):
        await connection.accept(transport=None, protocol=server_engine)
    with pytest.raises(ConfigurationError):
        await WebTransportConnection(config=ClientConfig()).accept(
            transport=None, protocol=client_engine
        )
    await connection.close()
    engine: Any = memory_pair()[1]
    shown: list[WebTransportConnection] = []
    engine.set_connection = lambda *, connection: shown.append(connection)
    created = await WebTransportConnection.create_server(
        config=ServerConfig(), transport=None, protocol=engine
    )
    assert created.is_connected
    assert shown == [created]
    assert created.protocol_handler is None
    await created.close()


async def test_accept_takes_nothing_else() -> None:
    connection = WebTransportConnection(config=ServerConfig())
    with pytest.raises(ConfigurationError, match=r"WebTransportServerProtocol .* got Protocol"):
        await connection.accept(transport=None, protocol=asyncio.Protocol())
    assert connection.state is ConnectionState.IDLE


# Sessions.


async def test_sessions_are_found_by_their_tokens() -> None:
    async with ends() as both:
        connection = both.client_connection
        assert connection.get_ready_session_id() == both.client.session_id
        assert await connection.wait_for_ready_session() == both.client.session_id
        info = connection.get_session_info(session_id=both.client.session_id)
        assert info is not None
        assert (info.path, info.state, info.control_stream_id) == (
            *("/test", SessionState.CONNECTED),
            0,
        )
        assert [each.session_id for each in connection.get_all_sessions()] == [info.session_id]
        assert connection.get_session_info(session_id="unknown") is None
        await both.client.close(close_connection=False)
        assert connection.get_ready_session_id() is None
        assert connection.get_all_sessions() == []


async def test_waiting_for_a_session() -> None:
    client, server = connections()
    requests: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    server._on_request = requests.put_nowait
    with pytest.raises(ConnectionError, match=r"0\.01 s"):
        await client.wait_for_ready_session(timeout=0.01)
    session = await client.create_session_optimistic(authority="test", path="/")
    waiting = asyncio.create_task(client.wait_for_ready_session())
    await (await requests.get()).accept()
    assert await waiting == session.session_id
    await session.close(close_connection=False)
    await client.create_session_optimistic(authority="test", path="/")
    waiting = asyncio.create_task(client.wait_for_ready_session())
    await (await requests.get()).reject(status_code=503)
    with pytest.raises(ClientError, match="Session closed before ready: HTTP status 503"):
        await waiting
    waiting = asyncio.create_task(client.wait_for_ready_session())
    await turns()
    await server.close()
    with pytest.raises(ConnectionError):
        await waiting
    await client.close()


async def test_only_clients_request_sessions() -> None:
    async with ends() as both:
        with pytest.raises(ConfigurationError, match="only a client"):
            await both.server_connection.create_session(authority="test", path="/")


async def test_request_that_nobody_answers_is_a_404() -> None:
    client, server = connections()
    with pytest.raises(ClientError, match="404"):
        await client.create_session(authority="test", path="/")
    told: list[Event] = []

    async def answer(event: Event) -> None:
        told.append(event)
        assert event.data is not None
        await event.data["session"].accept()

    server.on(event_type=EventType.SESSION_REQUEST, handler=answer)
    assert (await client.create_session(authority="test", path="/a")).is_ready
    assert told[0].data is not None
    assert told[0].data["path"] == "/a"
    await asyncio.gather(client.close(), server.close())


async def test_cancelled_request_is_withdrawn() -> None:
    client, server = connections()
    server._on_request = lambda session: None
    creating = asyncio.create_task(client.create_session(authority="test", path="/"))
    await turns()
    creating.cancel()
    await asyncio.wait([creating])
    assert not client._sessions
    await asyncio.gather(client.close(), server.close())


# The end.


async def test_close_tells_before_the_listeners_go() -> None:
    async with ends() as both:
        told: list[tuple[str, Any]] = []
        for name, connection in (
            ("client", both.client_connection),
            ("server", both.server_connection),
        ):
            for kind in (EventType.CONNECTION_CLOSED, EventType.CONNECTION_LOST):
                connection.on(
                    event_type=kind,
                    handler=lambda event, name=name: told.append((name, event.type)),  # type: ignore[misc]
                )
        session_closed = asyncio.create_task(both.client.wait_closed())
        peer_closed = asyncio.create_task(both.server_connection.wait_closed())
        await turns()
        await both.client_connection.close(reason="done")
        assert ("client", EventType.CONNECTION_CLOSED) in told
        await session_closed
        await peer_closed
        assert sorted(told) == [
            ("client", EventType.CONNECTION_CLOSED),
            ("server", EventType.CONNECTION_CLOSED),
            ("server", EventType.CONNECTION_LOST),
        ]
        await both.client_connection.close()
        assert both.client.is_closed


async def test_waits_that_are_given_up_leave_nothing() -> None:
    """A program that looks at something else every second waits again and again."""
    async with ends() as both:
        stream, _ = await both.bidirectional()
        datagrams = await both.client.create_datagram_transport()
        for waiter in (both.client_connection, both.client, stream):
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(waiter.wait_closed(), 0.001)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await datagrams.receive(timeout=0.001)
        assert both.client_connection._closed_waiters == []
        assert both.client._closed_waiters == []
        assert stream._closed_waiters == []
        assert datagrams._inbox.receivers == []
    idle = WebTransportConnection(config=ClientConfig())
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await idle.wait_ready(timeout=0.001)
        with pytest.raises(ConnectionError):
            await idle.wait_for_ready_session(timeout=0.001)
    assert idle._ready_waiters == idle._session_waiters == []


async def test_closing_before_the_handshake_ends_the_wait_for_it() -> None:
    connection = WebTransportConnection(config=ClientConfig())
    waiting = asyncio.create_task(connection.wait_ready())
    await turns()
    await connection.close()
    with pytest.raises(ConnectionError, match="closed"):
        await waiting


async def test_concurrent_closes_all_wait() -> None:
    async with ends() as both:
        connection = both.client_connection
        states = []

        async def close() -> None:
            await connection.close()
            states.append(connection.state)

        await asyncio.gather(*(close() for _ in range(3)))
        assert states == [ConnectionState.CLOSED] * 3


async def test_graceful_shutdown_lets_sessions_end() -> None:
    async with ends() as both:
        stopping = asyncio.create_task(both.server_connection.graceful_shutdown())
        await turns()
        assert both.client.state is SessionState.DRAINING
        assert not stopping.done()
        await both.client.close(close_connection=False)
        await stopping
        assert both.server_connection.is_closed


async def test_graceful_shutdown_is_bounded() -> None:
    async with ends(server={"close_timeout": 2.0}) as both:
        stopping = asyncio.create_task(both.server_connection.graceful_shutdown())
        await turns()
        await both.clock.advance(2.1)
        await stopping
        assert both.server_connection.is_closed


async def test_health_monitor(caplog: pytest.LogCaptureFixture) -> None:
    async with ends() as both:
        with caplog.at_level(logging.DEBUG, "pywebtransport"):
            monitoring = asyncio.create_task(both.client_connection.monitor_health())
            await turns()
            await both.clock.advance(31)
            await both.client_connection.close()
            await monitoring
        assert caplog.text.count("round-trip time") == 2


async def test_health_monitor_gives_up_on_a_slow_path(caplog: pytest.LogCaptureFixture) -> None:
    async with ends() as both:
        with caplog.at_level(logging.WARNING, "pywebtransport"):
            await both.client_connection.monitor_health(rtt_timeout=0.001)
        assert "round-trip time of 0.01 s" in caplog.text


async def test_unknown_session_cannot_be_adopted() -> None:
    async with ends() as both:
        token = both.client.session_id
        await both.client.close(close_connection=False)
        with pytest.raises(SessionError, match=token):
            await WebTransportSession(both.client_connection, session_id=token).initialize()


@pytest.mark.parametrize(
    ("figures", "rtt", "issue"),
    [
        ({"state": ConnectionState.CLOSED}, 0.0, "Connection not established (state: closed)"),
        ({"error_count": 10}, 0.0, None),
        ({"error_count": 11}, 0.0, "High error count: 11"),
        ({"last_activity": 290.0}, 0.0, None),
        ({"last_activity": 310.0}, 0.0, "No activity for 310s"),
        ({"packets_sent": 1000}, 0.0, None),
        ({"packets_sent": 1001}, 0.0, "1001 packets sent, none received"),
        ({"packets_sent": 1001, "packets_received": 1}, 0.0, None),
        ({}, 1.0, None),
        ({}, 1.1, "High round-trip time: 1.10s"),
    ],
)
def test_issues(figures: dict[str, Any], rtt: float, issue: str | None) -> None:
    if "last_activity" in figures:
        figures = {"last_activity": time.time() - figures["last_activity"]}
    info = ConnectionInfo(**{"connection_id": "c", "state": ConnectionState.CONNECTED} | figures)
    diagnostics = ConnectionDiagnostics(
        stats=info, rtt=rtt, cwnd=0, packets_in_flight=0, packet_loss_rate=0.0
    )
    assert diagnostics.issues == ([] if issue is None else [issue])


def test_uptime() -> None:
    info = ConnectionInfo(connection_id="c", state=ConnectionState.CONNECTED)
    assert info.uptime == 0.0
    info.established_at = time.time() - 5
    assert 5 <= info.uptime < 60
    info.closed_at = info.established_at + 2
    assert info.uptime == pytest.approx(2)


# The choice among several.


class Fake:
    """As much of a connection as a load balancer looks at."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_connected = True

    async def close(self) -> None:
        self.is_connected = False


class Factory:
    def __init__(self) -> None:
        self.calls: list[int] = []
        self.bad: set[int] = set()
        self.gate: asyncio.Event | None = None
        self.made: list[Fake] = []
        self.checks: list[dict[str, Any]] = []
        self.verdicts: list[bool | Exception | None] = []
        """Of the checks to come; None: never. Then all is well."""

    async def __call__(self, *, config: Any, host: str, port: int, path: str) -> Any:
        self.calls.append(port)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if port in self.bad:
            raise ConnectionError("on purpose")
        self.made.append(Fake(port))
        return self.made[-1]

    async def check(self, **options: Any) -> bool:
        self.checks.append(options)
        verdict = self.verdicts.pop(0) if self.verdicts else True
        if verdict is None:
            await asyncio.Event().wait()
        if isinstance(verdict, Exception):
            raise verdict
        return bool(verdict)


def balancer(factory: Factory, ports: list[int], **options: Any) -> ConnectionLoadBalancer:
    return ConnectionLoadBalancer(
        targets=[("host", port) for port in ports],
        connection_factory=factory,
        health_checker=factory.check,
        **options,
    )


async def test_round_robin_begins_with_the_second_target() -> None:
    factory = Factory()
    async with balancer(factory, [1, 2, 1, 3]) as balancing:
        assert len(balancing) == 3
        ports = []
        for _ in range(4):
            connection: Any = await balancing.get_connection(config=ClientConfig())
            ports.append(connection.port)
        assert ports == [2, 3, 1, 2]
        assert factory.calls == [2, 3, 1], "connections are shared"
        stats = await balancing.get_load_balancer_stats()
        assert stats == {
            "total_targets": 3,
            "failed_targets": 0,
            "available_targets": 3,
            "active_connections": 3,
        }
    assert (await balancing.get_load_balancer_stats())["active_connections"] == 0


async def test_concurrent_callers_share_one_creation() -> None:
    factory = Factory()
    async with balancer(factory, [1]) as balancing:
        found = await asyncio.gather(
            *(balancing.get_connection(config=ClientConfig()) for _ in range(5))
        )
        assert len(set(map(id, found))) == 1
        assert factory.calls == [1]


async def test_weights_and_latency() -> None:
    factory = Factory()
    async with balancer(factory, [1, 2]) as balancing:
        await balancing.update_target_weight(host="host", port=1, weight=-5)
        await balancing.update_target_weight(host="nowhere", port=9, weight=1)
        for _ in range(20):
            connection: Any = await balancing.get_connection(
                config=ClientConfig(), strategy="weighted"
            )
            assert connection.port == 2
        stats = await balancing.get_target_stats()
        assert stats["host:1"]["weight"] == 0.0
        assert stats["host:2"]["connected"]
        await balancing.update_target_weight(host="host", port=2, weight=0)
        await balancing.get_connection(config=ClientConfig(), strategy="weighted")
        # Port 1 may be new still; a target of unknown latency wins.
        balancing._targets[0].latency, balancing._targets[1].latency = 0.5, 0.1
        connection = await balancing.get_connection(config=ClientConfig(), strategy="least_latency")
        assert connection.port == 2
        with pytest.raises(ValueError, match="fastest"):
            await balancing.get_connection(config=ClientConfig(), strategy="fastest")


async def test_new_targets_win_by_latency() -> None:
    factory = Factory()
    async with balancer(factory, [1, 2, 3]) as balancing:
        for _ in range(3):
            await balancing.get_connection(config=ClientConfig(), strategy="least_latency")
        assert factory.calls == [1, 2, 3]
        targets = await balancing.get_target_stats()
        assert all(target["latency"] > 0 for target in targets.values())
        await balancing.get_connection(config=ClientConfig(), strategy="least_latency")
        assert factory.calls == [1, 2, 3], "all are connected"


async def test_weights_are_those_of_the_targets_left(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    def choices(targets: list[Any], *, weights: Any) -> list[Any]:
        drawn.append(weights)
        return [targets[-1]]

    monkeypatch.setattr("pywebtransport.connection.load_balancer.random.choices", choices)
    factory = Factory()
    factory.bad = {3}
    async with balancer(factory, [1, 2, 3]) as balancing:
        for port, weight in ((1, 4.0), (2, 0.5), (3, 2.0)):
            await balancing.update_target_weight(host="host", port=port, weight=weight)
        with pytest.raises(ConnectionError, match="on purpose"):
            await balancing.get_connection(config=ClientConfig(), strategy="weighted")
        await balancing.get_connection(config=ClientConfig(), strategy="weighted")
        for port in (1, 2):
            await balancing.update_target_weight(host="host", port=port, weight=0)
        await balancing.get_connection(config=ClientConfig(), strategy="weighted")
    assert drawn == [[4.0, 0.5, 2.0], [4.0, 0.5], None]


async def test_failed_targets_leave_until_they_are_well() -> None:
    factory = Factory()
    factory.bad = {1, 2}
    # A check that says no, one that raises and one that never answers leave a target failed.
    factory.verdicts = [False, False, ValueError("check is broken"), None]
    async with balancer(
        factory, [1, 2], health_check_interval=0.005, health_check_timeout=0.005
    ) as balancing:
        for _ in range(2):
            with pytest.raises(ConnectionError, match="on purpose"):
                await balancing.get_connection(config=ClientConfig())
        with pytest.raises(ConnectionError, match="all 2 targets"):
            await balancing.get_connection(config=ClientConfig())
        stats = await balancing.get_load_balancer_stats()
        assert (stats["failed_targets"], stats["available_targets"]) == (2, 0)
        assert factory.calls == [2, 1]
        balancing._targets[0].latency = 0.5
        factory.bad.clear()
        async with asyncio.timeout(2):
            while (await balancing.get_load_balancer_stats())["failed_targets"]:
                await turns(1)
        assert len(factory.checks) == 6
        assert factory.checks[0] == {"host": "host", "port": 1, "timeout": 0.005}
        targets = await balancing.get_target_stats()
        assert targets["host:1"] == {
            "host": "host",
            "port": 1,
            "weight": 1.0,
            "latency": 0.0,
            "failed": False,
            "connected": False,
        }
        await balancing.get_connection(config=ClientConfig())


async def test_lost_connections_are_replaced() -> None:
    factory = Factory()
    async with balancer(factory, [1]) as balancing:
        first: Any = await balancing.get_connection(config=ClientConfig())
        first.is_connected = False
        second: Any = await balancing.get_connection(config=ClientConfig())
        assert second is not first
        assert second.is_connected


async def test_callers_of_a_target_that_fails_do_not_try_one_after_another() -> None:
    factory = Factory()
    factory.bad, factory.gate = {1}, asyncio.Event()
    async with balancer(factory, [1]) as balancing:
        calls = [
            asyncio.create_task(balancing.get_connection(config=ClientConfig())) for _ in range(5)
        ]
        await turns()
        factory.gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, ConnectionError) for result in results)
        assert all("on purpose" in str(result) for result in results)
        assert factory.calls == [1]


async def test_cancelled_creation_marks_nothing() -> None:
    factory = Factory()
    factory.gate = asyncio.Event()
    async with balancer(factory, [1]) as balancing:
        first, second = (
            asyncio.create_task(balancing.get_connection(config=ClientConfig())) for _ in range(2)
        )
        await turns()
        first.cancel()
        factory.gate.set()
        assert (await second).is_connected
        assert factory.calls == [1, 1]


async def test_balancer_works_between_entering_and_leaving(
    caplog: pytest.LogCaptureFixture,
) -> None:
    factory = Factory()
    balancing = balancer(factory, [1, 2])
    for operation in (
        balancing.get_connection(config=ClientConfig()),
        balancing.get_load_balancer_stats(),
        balancing.get_target_stats(),
        balancing.update_target_weight(host="host", port=1, weight=1),
    ):
        with pytest.raises(ConnectionError, match="not been activated"):
            await operation
    async with balancing:
        await balancing.get_connection(config=ClientConfig())

        async def fail() -> None:
            raise OSError("close is broken")

        factory.made[0].close = fail  # type: ignore[method-assign]
        factory.gate = asyncio.Event()
        late = asyncio.create_task(balancing.get_connection(config=ClientConfig()))
        await turns()
    assert "close is broken" in caplog.text
    factory.gate.set()
    with pytest.raises(ConnectionError, match="shut down"):
        await late
    assert not factory.made[1].is_connected, "made too late, closed at once"
    with pytest.raises(ConnectionError, match="shut down"):
        await balancing.get_connection(config=ClientConfig())
    await balancing.shutdown()


def test_balancer_needs_a_target() -> None:
    with pytest.raises(ValueError, match="at least one"):
        balancer(Factory(), [])
