"""A server that echoes: run it with `make demo-server`, then paste its line into a browser.

A bidirectional stream comes back as it is, a unidirectional one as the SHA-256 of what it
carried on a stream that the server opens, a datagram as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import tempfile

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import ServerError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

PAGE_LINE = (
    'const wt = new WebTransport("{url}", {{serverCertificateHashes: [{{algorithm: "sha-256", '
    'value: Uint8Array.from("{sha256}".match(/../g), (h) => parseInt(h, 16))}}]}}); '
    "await wt.ready; const s = await wt.createBidirectionalStream(); "
    "const w = s.writable.getWriter(); "
    'await w.write(new TextEncoder().encode("hello over WebTransport")); await w.close(); '
    "console.log(await new Response(s.readable).text());"
)


async def echo(stream: WebTransportStream) -> None:
    while data := await stream.read(size=65536):
        await stream.write(data=data)
    await stream.close()


async def digest(session: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    sha256 = hashlib.sha256(await stream.read_all()).digest()
    answer = await session.create_unidirectional_stream()
    await answer.write_all(data=sha256)


async def echo_datagrams(session: WebTransportSession) -> None:
    transport = await session.create_datagram_transport()
    while True:
        await transport.send(data=await transport.receive())


async def demo(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        datagrams = tasks.create_task(echo_datagrams(session))
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                tasks.create_task(echo(stream))
            elif isinstance(stream, WebTransportReceiveStream):
                tasks.create_task(digest(session, stream))
        datagrams.cancel()


async def serve(port: int, *, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        certfile, keyfile = generate_self_signed_cert(
            hostname="localhost", output_dir=directory, browser_compatible=True
        )
        app = ServerApp(
            config=ServerConfig(
                certfile=certfile,
                keyfile=keyfile,
                bind_host="127.0.0.1",
                bind_port=port,
                read_timeout=None,  # whoever types may think for a while
                allowed_origins=["*", "null"],  # it is for whatever page you paste into
            )
        )
        app.route(path="/demo")(demo)
        async with app:
            await app.server.listen()
            url = f"https://127.0.0.1:{port}/demo"
            if as_json:
                print(json.dumps({"url": url, "certfile": certfile}), flush=True)
            else:
                sha256 = certificate_hash(path=certfile)
                print(f"URL               {url}")
                print(f"certificate hash  {sha256} (SHA-256)\n")
                print("Open the developer console of any page of https:// or http://localhost")
                print("in Chrome, Edge or Firefox, and paste:\n")
                print(PAGE_LINE.format(url=url, sha256=sha256))
                print("\nCtrl-C ends the server.", flush=True)
            await app.server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=4433)
    parser.add_argument("--json", action="store_true", help="announce the server for a program")
    arguments = parser.parse_args()
    # A shell starts what runs in the background without it, and `make demo` ends the server so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(serve(arguments.port, as_json=arguments.json))
    except ServerError as error:
        raise SystemExit(
            f"{error.message}; choose another, as in `make demo-server PORT=4434`"
        ) from error
    except KeyboardInterrupt:
        pass
    print("\nserver stopped")


if __name__ == "__main__":
    main()
