"""WebTransport over HTTP/3: clients, servers, sessions, streams and datagrams.

Everything named here is imported on first use, so that ``import pywebtransport`` costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pywebtransport.version import __version__

if TYPE_CHECKING:
    from pywebtransport.client import WebTransportClient
    from pywebtransport.config import ClientConfig, ServerConfig
    from pywebtransport.constants import ErrorCodes
    from pywebtransport.datagram import StructuredDatagramTransport, WebTransportDatagramTransport
    from pywebtransport.events import Event, EventEmitter
    from pywebtransport.exceptions import (
        ClientError,
        ConfigurationError,
        DatagramError,
        ProtocolError,
        ServerError,
        SessionClosedError,
        SessionError,
        StreamError,
        WebTransportError,
    )
    from pywebtransport.exceptions import (
        ConnectionError as ConnectionError,
    )
    from pywebtransport.exceptions import (
        TimeoutError as TimeoutError,
    )
    from pywebtransport.server import ServerApp, WebTransportServer
    from pywebtransport.session import WebTransportSession
    from pywebtransport.stream import (
        StructuredStream,
        WebTransportReceiveStream,
        WebTransportSendStream,
        WebTransportStream,
    )
    from pywebtransport.types import URL, Address, Headers, Serializer

__all__ = [
    "URL",
    "Address",
    "ClientConfig",
    "ClientError",
    "ConfigurationError",
    "DatagramError",
    "ErrorCodes",
    "Event",
    "EventEmitter",
    "Headers",
    "ProtocolError",
    "Serializer",
    "ServerApp",
    "ServerConfig",
    "ServerError",
    "SessionClosedError",
    "SessionError",
    "StreamError",
    "StructuredDatagramTransport",
    "StructuredStream",
    "WebTransportClient",
    "WebTransportDatagramTransport",
    "WebTransportError",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportServer",
    "WebTransportSession",
    "WebTransportStream",
    "__version__",
]

_HOMES = {
    "client": ("WebTransportClient",),
    "config": ("ClientConfig", "ServerConfig"),
    "constants": ("ErrorCodes",),
    "datagram": ("StructuredDatagramTransport", "WebTransportDatagramTransport"),
    "events": ("Event", "EventEmitter"),
    "exceptions": (
        "ClientError",
        "ConfigurationError",
        "ConnectionError",
        "DatagramError",
        "ProtocolError",
        "ServerError",
        "SessionClosedError",
        "SessionError",
        "StreamError",
        "TimeoutError",
        "WebTransportError",
    ),
    "server": ("ServerApp", "WebTransportServer"),
    "session": ("WebTransportSession",),
    "stream": (
        "StructuredStream",
        "WebTransportReceiveStream",
        "WebTransportSendStream",
        "WebTransportStream",
    ),
    "types": ("URL", "Address", "Headers", "Serializer"),
}
_MODULES = frozenset(_HOMES) | {
    "connection",
    "framework",
    "manager",
    "monitor",
    "pool",
    "protocol",
    "pubsub",
    "quic",
    "rpc",
    "serializer",
    "utils",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
