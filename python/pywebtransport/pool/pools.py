"""The three pools."""

from __future__ import annotations

from functools import partial

from pywebtransport.client import WebTransportClient
from pywebtransport.config import ClientConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.manager import StreamManager
from pywebtransport.pool._base import ObjectPool
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from pywebtransport.types import URL

__all__ = ["ConnectionPool", "SessionPool", "StreamPool"]


class ConnectionPool(ObjectPool[WebTransportConnection]):
    """Connections to ``host:port``, each made by ``WebTransportConnection.create_client``."""

    def __init__(
        self, *, config: ClientConfig, host: str, port: int, path: str = "/", max_size: int
    ) -> None:
        super().__init__(
            max_size=max_size,
            create=partial(
                WebTransportConnection.create_client, config=config, host=host, port=port, path=path
            ),
            close=lambda connection, _: connection.close(),
            is_whole=lambda connection: connection.is_connected,
        )

    async def release(self, conn: WebTransportConnection) -> None:
        """Return a connection; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(conn)


class SessionPool(ObjectPool[WebTransportSession]):
    """Sessions at ``url``, each made by ``client.connect``; one that drains is not reused."""

    def __init__(self, *, client: WebTransportClient, url: URL, max_size: int) -> None:
        super().__init__(
            max_size=max_size,
            create=partial(client.connect, url=url),
            close=lambda session, _: session.close(),
            is_whole=lambda session: session.is_ready,
        )

    async def release(self, session: WebTransportSession) -> None:
        """Return a session; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(session)


class StreamPool(ObjectPool[WebTransportStream]):
    """Streams made by ``stream_manager.create_bidirectional_stream``.

    A stream is reused only if neither side has ended a half and nothing waits to be read or sent.
    The pool cannot know of an answer that is still on its way: who gives up waiting for one leaves
    :meth:`get` by the exception, or aborts the stream before releasing it.
    """

    def __init__(self, *, stream_manager: StreamManager, max_size: int) -> None:
        super().__init__(
            max_size=max_size,
            create=stream_manager.create_bidirectional_stream,
            close=_close_stream,
            is_whole=lambda stream: stream._is_whole(),
        )

    async def release(self, stream: WebTransportStream) -> None:
        """Return a stream; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(stream)


async def _close_stream(stream: WebTransportStream, is_spoilt: bool) -> None:
    if is_spoilt:
        await stream.abort()
    else:
        await stream.close()
        await stream.stop_receiving()
