"""Two processes on one port: clients that move, workers that die, restarts, the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from pathlib import Path as FilePath

import pytest

from examples.certificate import Certificate, make_certificate
from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub import Message, PubSubManager
from pywebtransport.server.running import ONE_WISH
from pywebtransport.server.workers.worker import LEAVING_TIME
from pywebtransport.types import EventType
from tests.faults.relay import Path, relay_to
from tests.pubsub.test_broker import take
from tests.support.backplane_server import RedisServer

from .conftest import Client, Start, all_of, client_of, connect_to_both

pytestmark = pytest.mark.timeout(120)

TOLD_WITHIN = 3.0
"""Seconds in which a client has to hear that its worker is gone: a tenth of the idle timeout."""


async def test_a_session_stays_with_its_worker_when_its_client_moves(start: Start) -> None:
    async with (
        start() as server,
        relay_to(("127.0.0.1", server.port), Path()) as relay,
        client_of() as client,
    ):
        url = f"https://127.0.0.1:{relay.address[1]}/echo"
        clients = await connect_to_both(client, url, least=5)
        turns = 8
        moved = asyncio.Event()

        async def talk(each: Client) -> None:
            while not moved.is_set():
                await each.exchange()

        async def move() -> None:
            for _ in range(turns):
                relay.rebind()
                # Everybody talks from the new address before the next.
                await all_of(clients, Client.exchange)
            moved.set()

        await asyncio.gather(move(), all_of(clients, talk))
        assert not [each for each in clients if each.session.is_closed]
        print(f"{len(clients)} sessions, {turns} new addresses each, {relay.counts}")


async def test_a_killed_worker_comes_back_and_its_clients_are_told(start: Start) -> None:
    loop = asyncio.get_running_loop()
    async with start() as server, client_of() as client:
        clients = await connect_to_both(client, server.url())
        number, victim = server.started()[0]
        mine = [each for each in clients if each.pid == victim]
        others = [each for each in clients if each.pid != victim]
        os.kill(victim, signal.SIGKILL)

        async def hear(each: Client) -> None:
            with pytest.raises(WebTransportError):
                while True:
                    await each.exchange(1000)
            await each.session.wait_closed()

        killed = loop.time()
        ending = asyncio.gather(*(hear(each) for each in mine))
        while not ending.done():
            await all_of(others, Client.exchange)
        await ending
        told = loop.time() - killed
        print(f"told after {told:.2f} s")
        assert told < TOLD_WITHIN
        await server.says("was killed by SIGKILL; it is started again")
        await server.says(") serves")
        assert [each for each, _ in server.started()] in ([1, 2, number], [2, 1, number])
        await all_of(others, Client.exchange)
        again = await connect_to_both(client, server.url(), least=1)
        assert {each.pid for each in again} == {pid for _, pid in server.started()} - {victim}


async def test_a_restart_loses_no_session_and_no_new_client(
    start: Start, certificate: Certificate, tmp_path: FilePath
) -> None:
    (tmp_path / "site").mkdir()
    files = {
        "certfile": shutil.copy(certificate.certfile, tmp_path / "site/cert.pem"),
        "keyfile": shutil.copy(certificate.keyfile, tmp_path / "site/key.pem"),
    }
    async with start(graceful_timeout=60, **files) as server, client_of() as client:
        clients = await connect_to_both(client, server.url())
        told = [
            asyncio.ensure_future(each.session.wait_for(event_type=EventType.SESSION_DRAINING))
            for each in clients
        ]
        (tmp_path / "new").mkdir()
        renewed = make_certificate(tmp_path / "new")
        shutil.copy(renewed.certfile, files["certfile"])
        shutil.copy(renewed.keyfile, files["keyfile"])
        server.signal(signal.SIGHUP)
        served_by = set()
        while not all(each.done() for each in told):
            # Every connection succeeds, and the old sessions go on, all the time.
            fresh = await Client.connect(client, server.url())
            served_by.add(fresh.pid)
            await all_of([fresh, *clients], lambda each: each.exchange(5000))
            await fresh.session.close()
        new = {pid for number, pid in server.started() if number > 2}
        assert len(new) == 2
        await all_of(clients, Client.exchange)
        fresh_clients = await connect_to_both(client, server.url(), least=1)
        assert {each.pid for each in fresh_clients} == new <= served_by | new
        pinned = ClientConfig(server_certificate_hashes=[renewed.sha256])
        async with WebTransportClient(config=pinned) as sceptic:
            await sceptic.connect(url=server.url())
        # The old ones are waited for; when they have gone, the restart is complete.
        assert not [line for line in server.log if "SIGHUP: restarted" in line]
        await all_of(clients, lambda each: each.session.close())
        await server.says("SIGHUP: restarted", within=10)
        await all_of(fresh_clients, Client.exchange)
        assert (tmp_path / "ended").read_text().split() != []
        # Once more, back to the first places.
        server.signal(signal.SIGHUP)
        await server.says("SIGHUP: the new workers serve", times=2)
        await all_of(fresh_clients, Client.exchange)
        last = await connect_to_both(client, server.url(), least=1)
        assert {each.pid for each in last} == {pid for _, pid in server.started()[-2:]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_end_waits_for_sessions(
    start: Start, tmp_path: FilePath, number: signal.Signals
) -> None:
    async with start(graceful_timeout=30, retry=True) as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=1)
        server.signal(number)
        await server.says("told", times=2)
        await all_of(clients, Client.exchange)
        with pytest.raises(WebTransportError):
            await client.connect(url=server.url())
        await all_of(clients, lambda each: each.session.close())
        assert await server.end() == 0
        workers = {str(pid) for _, pid in server.started()}
        assert set((tmp_path / "ended").read_text().split()) == workers


async def test_a_worker_that_is_ended_takes_no_new_clients(start: Start) -> None:
    async with start(graceful_timeout=60) as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=1)
        _, leaving = server.started()[0]
        os.kill(leaving, signal.SIGTERM)
        await server.says("told")
        for _ in range(12):
            assert (await Client.connect(client, server.url())).pid != leaving
        await all_of(clients, Client.exchange)
        await all_of(clients, lambda each: each.session.close())
        await server.says(f"(pid {leaving}) ended with status 0; it is started again")
        await server.says(") serves")
        await connect_to_both(client, server.url(), least=1)


async def test_a_worker_refuses_nobody_before_others_take_its_clients(start: Start) -> None:
    async with start(graceful_timeout=60) as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=1)
        _, leaving = server.started()[0]
        server.signal(signal.SIGSTOP)
        os.kill(leaving, signal.SIGTERM)
        await server.says("SIGTERM: shutting down")
        clients += await connect_to_both(client, server.url(), least=1)
        server.signal(signal.SIGCONT)
        await server.says("told")
        await all_of(clients, Client.exchange)
        await all_of(clients, lambda each: each.session.close())
        await server.says(f"(pid {leaving}) ended with status 0; it is started again")


async def test_a_worker_ends_though_its_supervisor_does_not_answer(start: Start) -> None:
    async with start(graceful_timeout=60) as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=1)
        _, leaving = server.started()[0]
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        os.kill(leaving, signal.SIGTERM)
        await server.says("told")
        assert LEAVING_TIME <= time.monotonic() - began < LEAVING_TIME + 10
        await all_of(clients, Client.exchange)
        await all_of(clients, lambda each: each.session.close())
        server.signal(signal.SIGCONT)
        await server.says(f"(pid {leaving}) ended with status 0; it is started again")


async def test_a_second_signal_hurries(start: Start) -> None:
    # On two addresses, each with a group of sockets.
    async with (
        start(graceful_timeout=60, bind_host="localhost") as server,
        client_of() as client,
    ):
        clients = await connect_to_both(client, server.url(), least=1)
        url = f"https://[::1]:{server.port}/echo"
        clients += await connect_to_both(client, url, least=1)
        server.signal(signal.SIGTERM)
        await server.says("told", times=2)
        await all_of(clients, Client.exchange)
        await asyncio.sleep(2 * ONE_WISH)
        server.signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            for each in clients:
                await each.session.wait_closed()
        assert await server.end() == 0


async def test_a_worker_that_cannot_start_is_given_up(start: Start, tmp_path: FilePath) -> None:
    async with start() as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=1)
        number, victim = server.started()[0]
        (tmp_path / "broken").touch()
        # A restart that cannot succeed changes nothing.
        server.signal(signal.SIGHUP)
        await server.says("SIGHUP: the old workers go on, for a new one cannot start: broken on")
        await all_of(clients, Client.exchange)
        os.kill(victim, signal.SIGKILL)
        line = await server.says("is given up after 5 starts in a row that failed")
        assert f"worker {number} " in line
        assert "broken on purpose" in await server.says("before it served", times=5)
        for _ in range(10):
            assert (await Client.connect(client, server.url())).pid != victim
        (tmp_path / "broken").unlink()
        server.signal(signal.SIGHUP)
        await server.says("SIGHUP: restarted")
        await connect_to_both(client, server.url(), least=1)


async def test_a_server_whose_workers_cannot_start_says_why(
    start: Start, tmp_path: FilePath
) -> None:
    (tmp_path / "broken").touch()
    async with start(waits=False) as server:
        assert await server.end() == 1
        assert "a worker cannot start: broken on purpose" in "\n".join(server.log)


async def test_a_port_that_is_taken_is_not_shared(start: Start) -> None:
    async with start() as server, start(waits=False, bind_port=server.port) as second:
        assert await second.end() == 1
        text = f"cannot listen on 127.0.0.1:{server.port}: Address already in use"
        assert text in "\n".join(second.log)
        async with client_of() as client:
            await connect_to_both(client, server.url(), least=1)


async def test_workers_end_when_their_supervisor_is_gone(start: Start) -> None:
    async with start(graceful_timeout=30) as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=1)
        server.process.kill()
        await server.says("the supervisor is gone", times=2)
        await all_of(clients, Client.exchange)
        await all_of(clients, lambda each: each.session.close())
        await server.end()


async def test_tickets_of_one_worker_are_good_for_the_other(start: Start) -> None:
    async with start() as server, client_of() as client:
        clients = await connect_to_both(client, server.url(), least=3)

        def handshake(each: Client) -> int:
            assert each.session.connection is not None
            return int(each.session.connection._engine_stats().extra["tls_bytes_received"])

        first, *others = map(handshake, clients)
        print([(each.pid, handshake(each)) for each in clients])
        # A certificate and its signature take several hundred bytes.
        assert first > max(others) + 300


async def test_each_connection_has_its_own_qlog_whichever_worker_serves_it(
    start: Start, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "logs"
    monkeypatch.setenv("QLOGDIR", str(folder))
    async with start() as server, client_of() as client:
        clients = await connect_to_both(client, server.url())
        await all_of(clients, Client.exchange)
        names = {side: {*folder.glob(f"*_{side}.sqlog")} for side in ("client", "server")}
        # Both ends name a connection alike, so each file of a worker has one of a client.
        ids = [{path.name.split("_")[0] for path in paths} for paths in names.values()]
        assert ids[0] == ids[1]
        assert len(ids[0]) == len(clients)
        for path in names["server"]:
            header, *records = path.read_text().split("\x1e")[1:]
            assert path.name.split("_")[0] in header
            # One connection's handshake, and what was exchanged on it.
            assert sum('"frame_type":"handshake_done"' in record for record in records) == 1
            assert sum('"name":"transport:packet_received"' in record for record in records) > 3


async def test_topics_are_the_same_in_all_workers_over_a_broker(start: Start) -> None:
    async with RedisServer() as redis, start(redis=redis.url) as server, client_of() as client:
        managers: list[PubSubManager] = []
        for _ in range(8):
            session = await client.connect(url=server.url("/pubsub"))
            managers.append(PubSubManager(stream=await session.create_bidirectional_stream()))
            await managers[-1].__aenter__()
        subscriptions = [
            await (await each.subscribe(topic="news")).__aenter__() for each in managers
        ]
        for number, each in enumerate(managers):
            await each.publish(topic="news", data=str(number))
            for subscription in subscriptions:
                assert await take(subscription, 1) == [Message("news", str(number).encode())]


class Trains:
    """A relay for one client socket whose packets for one worker all travel behind one for another.

    The kernel gives both to the worker of the first (as GRO may do to the packets of two
    connections of one client), so that the second arrives only if it is handed on.
    """

    UDP_SEGMENT = 103

    def __init__(self, server: int) -> None:
        self.server = ("127.0.0.1", server)
        self.client: tuple[str, int] | None = None
        self.front = self.open()
        self.back = self.open()
        self.first = b""
        """A large packet for the worker at place 0; it knows it already."""
        self.behind = 0

    def open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    def forward(self) -> None:
        data, self.client = self.front.recvfrom(65536)
        is_short = data[0] < 0x80
        place = data[2] % 4
        if is_short and place == 0 and len(data) > len(self.first):
            self.first = data
        if is_short and place == 1 and len(self.first) >= len(data):
            self.behind += 1
            size = len(self.first).to_bytes(2, "little")
            option = (socket.IPPROTO_UDP, self.UDP_SEGMENT, size)
            self.back.sendmsg([self.first + data], [option], 0, self.server)
        else:
            self.back.sendto(data, self.server)

    def answer(self) -> None:
        assert self.client is not None
        self.front.sendto(self.back.recv(65536), self.client)


async def test_a_packet_that_the_kernel_misplaces_is_handed_on(start: Start) -> None:
    loop = asyncio.get_running_loop()
    async with start(connection_idle_timeout=5) as server:
        trains = Trains(server.port)
        loop.add_reader(trains.front, trains.forward)
        loop.add_reader(trains.back, trains.answer)
        async with client_of() as client:
            url = f"https://127.0.0.1:{trains.front.getsockname()[1]}/echo"
            clients = await connect_to_both(client, url, least=1)
            places = {pid: number - 1 for number, pid in server.started()}
            await all_of([each for each in clients if places[each.pid] == 0], Client.exchange)
            before = trains.behind
            await all_of([each for each in clients if places[each.pid] == 1], Client.exchange)
            assert trains.behind > before + 10
            print(f"{trains.behind} packets behind another worker's")
        for sock in (trains.front, trains.back):
            loop.remove_reader(sock)
            sock.close()
