"""What the examples share: a certificate for browsers, and the page beside the server.

A page of `examples/pages` comes over TCP, on the port number that WebTransport has over UDP: for a
browser that is one origin. `settings.json` beside it has the hash of the certificate.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerApp, ServerConfig
from pywebtransport.demo.pages import Page, PageServer
from pywebtransport.utils import certificate_hash

PAGES = Path(__file__).with_name("pages")
TYPES = {".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript"}
IS_WORKER = "EXAMPLE_FOLDER" in os.environ  # a process that a server of several has started
if not IS_WORKER:
    folder = tempfile.TemporaryDirectory()  # of the certificate, until the program ends
    os.environ["EXAMPLE_FOLDER"] = folder.name
    make_certificate(Path(folder.name))


def configuration(**options: Any) -> ServerConfig:
    """With the new certificate; a client that has vanished is missed after ten seconds."""
    path = Path(os.environ["EXAMPLE_FOLDER"]) / "localhost.crt"
    return ServerConfig(
        certfile=str(path),
        keyfile=str(path.with_suffix(".key")),
        read_timeout=None,
        connection_idle_timeout=10,
        connection_keepalive_timeout=3,
        **options,
    )


def settings_of(config: ServerConfig) -> dict[str, str]:
    """What a page has to know."""
    return {"certificateHash": certificate_hash(path=config.certfile)}


def pages_of(config: ServerConfig, page: str) -> dict[str, Page]:
    """A page, at `/`, and what it loads."""
    files = {
        f"/{path.name}": Page(TYPES[path.suffix], path.read_bytes()) for path in PAGES.iterdir()
    }
    settings = Page("application/json", json.dumps(settings_of(config)).encode())
    return {**files, "/": files[f"/{page}"], "/settings.json": settings}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=4433, help="of UDP and TCP")
    return parser


def run(app: ServerApp, page: str, port: int | None = None, *, workers: int = 1) -> None:
    """Serve the application and its page until Ctrl-C; each worker serves the page, too."""
    port = port or arguments().parse_args().port
    pages = PageServer(pages_of(app.server.config, page), headers={"Cache-Control": "no-store"})

    @app.on_startup
    async def start() -> None:
        await pages.listen("localhost", port, reuse_port=workers > 1)
        if workers == 1:
            print(f"Open http://localhost:{port}/", flush=True)

    app.on_shutdown(pages.close)
    if workers > 1 and not IS_WORKER:
        print(f"Open http://localhost:{port}/", flush=True)
    app.run(host="localhost", port=port, workers=workers)


def client_configuration(port: int) -> ClientConfig:
    """For a program that talks to an example on this machine: it trusts what a page trusts."""
    with urllib.request.urlopen(f"http://localhost:{port}/settings.json", timeout=10) as answer:
        settings = json.load(answer)
    return ClientConfig(server_certificate_hashes=[settings["certificateHash"]])
