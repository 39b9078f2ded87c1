"""Sans-I/O QUIC: packets, the time and calls in; packets, events and a deadline out.

The verbs and events of aioquic and qh3, so that code written for either drives this one:
after every call, send what :meth:`QuicConnection.datagrams_to_send` returns, take
:meth:`QuicConnection.next_event` until it returns None, and arm one timer for
:meth:`QuicConnection.get_timer`. No socket, clock, thread or event loop is touched.
"""

from pywebtransport.quic.configuration import QuicConfiguration
from pywebtransport.quic.connection import QuicConnection, QuicConnectionError

__all__ = ["QuicConfiguration", "QuicConnection", "QuicConnectionError"]
