"""Real Redis and NATS servers that tests start, stop and start again on the same port."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from typing import Self

import pytest

from pywebtransport.pubsub import NatsBackplane, RedisBackplane
from pywebtransport.pubsub.remote import RemoteBackplane

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 20.0
FAST_RETRY = {"min_retry_delay": 0.01, "max_retry_delay": 0.05}


def free_tcp_port() -> int:
    """One below those that the kernel gives to clients, which could take it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class BackplaneServer:
    """One server process; it keeps no data."""

    scheme = ""
    program = ""
    ready = b""
    backplane_class: type[RemoteBackplane]

    def __init__(self) -> None:
        self.port = free_tcp_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def backplane(self, **options: object) -> RemoteBackplane:
        return self.backplane_class(self.url, **{**FAST_RETRY, **options})  # type: ignore[arg-type]

    def arguments(self) -> list[str]:
        raise NotImplementedError

    async def start(self) -> None:
        places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", str(ROOT / ".cache/bin")])
        path = shutil.which(self.program, path=places)
        if path is None:
            pytest.fail(f"{self.program} is not installed: run `make brokers`")
        self._process = await asyncio.create_subprocess_exec(
            path, *self.arguments(), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        assert self._process.stdout is not None
        said = b""
        async with asyncio.timeout(START_TIMEOUT):
            while self.ready not in said:
                line = await self._process.stdout.readline()
                assert line, f"{self.program} ended: {said.decode()}"
                said += line

    async def kill(self) -> None:
        """As a crash: nothing is said to its clients."""
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.kill()


class RedisServer(BackplaneServer):
    scheme = "redis"
    program = "redis-server"
    ready = b"eady to accept connections"
    backplane_class = RedisBackplane

    def arguments(self) -> list[str]:
        port = ["--port", str(self.port), "--bind", "127.0.0.1"]
        return [*port, "--save", "", "--appendonly", "no", "--daemonize", "no"]


class NatsServer(BackplaneServer):
    scheme = "nats"
    program = "nats-server"
    ready = b"Server is ready"
    backplane_class = NatsBackplane

    def arguments(self) -> list[str]:
        return ["--addr", "127.0.0.1", "--port", str(self.port)]
