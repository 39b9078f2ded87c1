"""An ASGI application over HTTP/3: requests, WebTransport sessions and its lifespan.

``docs/reference/asgi-webtransport.md`` has the messages of a session; there is no standard for
them.
"""

from __future__ import annotations

from pywebtransport.asgi._altsvc import AltSvcMiddleware
from pywebtransport.asgi._mounts import as_asgi
from pywebtransport.asgi._server import AsgiServer, run, serve
from pywebtransport.asgi._session import SPEC_VERSION
from pywebtransport.asgi.exceptions import ClientDisconnected, StreamEnded

__all__ = [
    "SPEC_VERSION",
    "AltSvcMiddleware",
    "AsgiServer",
    "ClientDisconnected",
    "StreamEnded",
    "as_asgi",
    "run",
    "serve",
]
