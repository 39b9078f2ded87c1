"""An endpoint for quic-interop-runner's WebTransport cases, as its webtransport.md defines them.

The runner says by environment variables what to do:

    ROLE        client or server
    TESTCASE    one of CASES; any other ends the program with status 127
    REQUESTS    what to ask the other side for: URLs (client) or paths (server), by spaces
    PROTOCOLS   application protocols, most wanted first, by spaces

Files are served from /www and stored below /downloads, in a directory for each path of a session;
the server's certificate is /certs/cert.pem with /certs/priv.key. For a run without the runner the
variables WWW, DOWNLOADS, CERTS and PORT name other places. SSLKEYLOGFILE is written by the engines.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections import defaultdict
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import SessionError, WebTransportError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream

UNSUPPORTED = 127
# What this side asks for, and on what; `transfer` answers the other side's requests.
RECEIVES = ("unidirectional", "bidirectional", "datagram")
CASES = {
    "client": {"handshake", "transfer", *(f"transfer-{kind}-receive" for kind in RECEIVES)},
    "server": {"handshake", "transfer", *(f"transfer-{kind}-send" for kind in RECEIVES)},
}
WWW = Path(os.environ.get("WWW", "/www"))
DOWNLOADS = Path(os.environ.get("DOWNLOADS", "/downloads"))
CERTS = Path(os.environ.get("CERTS", "/certs"))
PORT = int(os.environ.get("PORT", "443"))
# A datagram may be lost; its request is sent again after this many seconds.
DATAGRAM_PATIENCE = 0.5


def words(name: str) -> list[str]:
    return os.environ.get(name, "").replace('"', " ").split()


def requests() -> dict[str, list[str]]:
    """The files to ask for, by the path of the session, which may be asked for none."""
    found: dict[str, list[str]] = defaultdict(list)
    for request in words("REQUESTS"):
        path, _, file = urlsplit(request).path.strip("/").partition("/")
        found[path] += [file] if file else []
    return found


def served_paths() -> set[str]:
    return {each.name for each in WWW.iterdir() if each.is_dir()}


def content(session: WebTransportSession, file: str) -> bytes:
    """A file of the session's directory, and of no other."""
    directory = (WWW / session.path.strip("/")).resolve()
    path = (directory / file).resolve()
    if not path.is_relative_to(directory):
        raise PermissionError(f"{file} is outside of {directory}")
    return path.read_bytes()


def download(session: WebTransportSession, file: str) -> Path:
    return DOWNLOADS / session.path.strip("/") / Path(file).name


def store(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def requested(data: bytes) -> str:
    if not data.startswith(b"GET "):
        raise ValueError(f"no request: {data[:40]!r}")
    return data[4:].decode().strip()


def pushed(data: bytes) -> tuple[str, bytes]:
    head, found, body = data.partition(b"\n")
    if not (found and head.startswith(b"PUSH ")):
        raise ValueError(f"no file: {head[:40]!r}")
    return head[5:].decode().strip(), body


async def answer_all(session: WebTransportSession) -> None:
    """Serve the other side's requests until it ends the session."""

    async def answer(stream: WebTransportReceiveStream) -> None:
        file = requested(await stream.read_all())
        if isinstance(stream, WebTransportStream):
            await stream.write_all(data=content(session, file))
        else:
            push = await session.create_unidirectional_stream()
            await push.write_all(data=f"PUSH {file}\n".encode() + content(session, file))

    async def answer_datagrams() -> None:
        transport = await session.create_datagram_transport()
        while True:
            file = requested(await transport.receive())
            await transport.send(data=f"PUSH {file}\n".encode() + content(session, file))

    async with asyncio.TaskGroup() as tasks:
        datagrams = tasks.create_task(answer_datagrams())
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportReceiveStream):
                tasks.create_task(answer(stream))
        datagrams.cancel()


async def fetch_unidirectional(session: WebTransportSession, files: list[str]) -> None:
    async def receive() -> None:
        stream = await session.accept_unidirectional_stream()
        file, data = pushed(await stream.read_all())
        store(download(session, file), data)

    async def ask(file: str) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=f"GET {file}".encode())

    await asyncio.gather(*map(ask, files), *(receive() for _ in files))


async def fetch_bidirectional(session: WebTransportSession, files: list[str]) -> None:
    async def fetch(file: str) -> None:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=f"GET {file}".encode())
        store(download(session, file), await stream.read_all())

    await asyncio.gather(*map(fetch, files))


async def fetch_datagrams(session: WebTransportSession, files: list[str]) -> None:
    transport = await session.create_datagram_transport()
    missing = set(files)
    while missing:
        for file in sorted(missing):
            await transport.send(data=f"GET {file}".encode())
            await asyncio.sleep(0)  # not all in one burst
        try:
            async with asyncio.timeout(DATAGRAM_PATIENCE):
                while missing:
                    file, data = pushed(await transport.receive())
                    store(download(session, file), data)
                    missing.discard(file)
        except TimeoutError:
            pass


FETCH = {
    "unidirectional": fetch_unidirectional,
    "bidirectional": fetch_bidirectional,
    "datagram": fetch_datagrams,
}


async def run_case(case: str, session: WebTransportSession, files: list[str]) -> None:
    if case == "handshake":
        store(DOWNLOADS / "negotiated_protocol.txt", (session.wt_protocol or "").encode())
    elif case == "transfer":
        await answer_all(session)
    else:
        await FETCH[case.split("-")[1]](session, files)


async def run_client(case: str) -> None:
    config = ClientConfig(verify_mode=ssl.CERT_NONE, allow_pooling=True)
    urls = [urlsplit(url) for url in words("REQUESTS")]
    authority = urls[0].netloc
    async with WebTransportClient(config=config) as client:

        async def run(path: str, files: list[str]) -> None:
            session = await client.connect(
                url=f"https://{authority}/{path}", wt_available_protocols=words("PROTOCOLS")
            )
            await run_case(case, session, files)
            await session.close()

        # All sessions at once, on one connection.
        await asyncio.gather(*(run(path, files) for path, files in requests().items()))


async def choose_protocol(*, session: WebTransportSession) -> bool:
    """The client's first one that is known here: the runner's rule, not the default one."""
    known = words("PROTOCOLS")
    session.wt_protocol = next(
        (offered for offered in session.wt_available_protocols or () if offered in known), None
    )
    return True


async def run_server(case: str) -> None:
    config = ServerConfig(
        certfile=str(CERTS / "cert.pem"),
        keyfile=str(CERTS / "priv.key"),
        bind_host="::",
        bind_port=PORT,
        allowed_origins=["*"],
    )
    app = ServerApp(config=config)
    app.add_middleware(middleware=choose_protocol)
    wanted = requests()
    done: asyncio.Queue[str] = asyncio.Queue()

    async def serve(session: WebTransportSession) -> None:
        path = session.path.strip("/")
        await run_case(case, session, wanted.get(path, []))
        if case.endswith("-send"):
            await session.close()
        else:
            await session.wait_closed()
        done.put_nowait(path)

    paths = wanted.keys() | served_paths()
    for path in paths:
        app.route(path=f"/{path}")(serve)
    async with app:
        await app.server.listen()
        print(f"listening on port {PORT}", flush=True)
        for _ in wanted or paths:
            await done.get()


def main() -> NoReturn:
    role, case = os.environ.get("ROLE", ""), os.environ.get("TESTCASE", "")
    if case not in CASES.get(role, ()):
        print(f"{role or 'no role'}: the case {case!r} is not supported", file=sys.stderr)
        sys.exit(UNSUPPORTED)
    try:
        asyncio.run({"client": run_client, "server": run_server}[role](case))
    except (WebTransportError, SessionError, OSError) as error:
        sys.exit(f"{role}, {case}: {error}")
    sys.exit(0)


if __name__ == "__main__":
    main()
