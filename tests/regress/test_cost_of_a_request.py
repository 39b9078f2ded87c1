"""What a request on a new stream costs, counted: frames of the library, calls of the engine."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pywebtransport
from pywebtransport import ServerApp
from pywebtransport._native import EndpointConnection
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from tests.support.certificate import Certificate

from .place import Place

ROOM = str(Path(pywebtransport.__file__).parent)
REQUESTS = 100


class Counted:
    """While entered, counts for this thread."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.crossings: Counter[str] = Counter()

    def __enter__(self) -> Counted:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOM):
            self.frames[frame.f_code.co_qualname] += 1
        elif event == "c_call" and isinstance(
            getattr(function, "__self__", None), EndpointConnection
        ):
            self.crossings[function.__name__] += 1


async def echo(stream: WebTransportStream) -> None:
    kind = await stream.readexactly(1)
    await stream.write(kind + await stream.read_all(), end_stream=True)


def echo_at_once(stream: WebTransportStream, data: bytes) -> bytes:
    return data


async def ask(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream()
    await stream.write(bytes(64), end_stream=True)
    assert await stream.read_all() == bytes(64)


@pytest.mark.parametrize(("handler", "bound"), [(echo, 66), (echo_at_once, 43)])
async def test_frames_and_crossings_of_a_request(
    certificate: Certificate, handler: Any, bound: int
) -> None:
    """Both ends together; what the loop does every so often is a small part on top."""
    place = Place("native", certificate)
    place.app = ServerApp(config=place.server_config(), stream_handler=handler)
    async with place:
        session = await place.connect()
        for _ in range(10):
            await ask(session)
        with Counted() as counted:
            for _ in range(REQUESTS):
                await ask(session)
    each = counted.frames.total() / REQUESTS
    assert each < bound, counted.frames.most_common()
    crossings = {name: count / REQUESTS for name, count in counted.crossings.items()}
    # The question is read with its end, and so is the answer.
    assert crossings == {"open_stream": 1, "stream_write": 2, "stream_read": 2}
