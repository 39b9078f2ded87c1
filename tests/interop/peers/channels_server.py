"""A Django project with a consumer of channels-webtransport; `manage.py` of it, too.

`channels_server.py runwebtransport --port ...` serves it as its README says, and
`channels_server.py asgi --port ...` with pywebtransport.asgi.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["channels", "channels_webtransport"],
    ASGI_APPLICATION=f"{__name__}.application",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    WEBTRANSPORT={"OPTIONS": {"engine": os.environ["ENGINE"], "access_log": False}},
    USE_TZ=True,
)
django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels_webtransport import AsyncWebTransportConsumer  # noqa: E402
from django.core.management import execute_from_command_line  # noqa: E402
from django.urls import path  # noqa: E402


class Consumer(AsyncWebTransportConsumer):  # type: ignore[misc]
    """Echoes, and tells as datagrams what else comes."""

    groups = ("everybody",)

    async def connect(self) -> None:
        if self.scope["query_string"] == b"refuse":
            await self.close(status=401)
            return
        offered = self.scope["subprotocols"]
        await self.accept(offered[-1] if offered else None)

    async def receive_datagram(self, data: bytes) -> None:
        if data == b"everybody":
            message = {"type": "told", "text": self.scope["url_route"]["kwargs"]["room"]}
            await self.channel_layer.group_send("everybody", message)
        elif data == b"close":
            await self.close(code=12, reason="asked to")
        else:
            await self.send_datagram(data)

    async def told(self, event: dict[str, Any]) -> None:
        await self.send_datagram(f"told {event['text']}".encode())

    async def stream_opened(self, stream: int, direction: str) -> None:
        await self.send_datagram(f"opened {stream} {direction}".encode())

    async def receive_stream(self, stream: int, data: bytes, end_stream: bool) -> None:
        if data == b"reset":
            await self.reset_stream(stream, code=7)
            await self.stop_receiving_stream(stream, code=8)
        elif stream % 4 == 0:
            await self.send_stream(stream, data, end_stream=end_stream)

    async def stream_reset(self, stream: int, code: int) -> None:
        await self.send_datagram(f"reset {stream} {code}".encode())

    async def stream_stop_sending(self, stream: int, code: int) -> None:
        await self.send_datagram(f"stopped {stream} {code}".encode())

    async def disconnect(self, code: int, reason: str) -> None:
        print(f"left {code} {reason}", flush=True)


application = ProtocolTypeRouter(
    {"webtransport": URLRouter([path("wt/<str:room>/", Consumer.as_asgi())])}
)


def serve(port: int, certfile: str, keyfile: str) -> None:
    from pywebtransport import ServerConfig
    from pywebtransport.asgi import run

    options = settings.WEBTRANSPORT["OPTIONS"]
    config = ServerConfig(
        bind_host="127.0.0.1", bind_port=port, certfile=certfile, keyfile=keyfile, **options
    )
    run(application, config=config)


if __name__ == "__main__":
    import pywebtransport

    print(pywebtransport.__file__, flush=True)
    logging.getLogger("pywebtransport.server").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("pywebtransport.server").setLevel(logging.INFO)
    sys.modules["channels_server"] = sys.modules[__name__]
    settings.WEBTRANSPORT["APPLICATION"] = application
    if sys.argv[1] == "asgi":
        given = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
        serve(int(given["--port"]), given["--certificate"], given["--private-key"])
        sys.exit(0)
    execute_from_command_line(sys.argv)
