"""The live demo page: a page over HTTP and a WebTransport server beside it, in one process.

``pywebtransport demo`` runs it. The page and everything that it loads come with this package.
"""

from __future__ import annotations

from pywebtransport.demo.pages import PageServer
from pywebtransport.demo.server import Demo

__all__ = ["Demo", "PageServer"]
