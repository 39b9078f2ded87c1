"""FastAPI and WebTransport in one process: what is posted over HTTP reaches every page at once.

The WebTransport server starts and ends with FastAPI's lifespan, and shares its event loop. Here
uvicorn carries HTTP over TCP; the port number is the same for both.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from examples.local import PAGES, arguments, configuration, settings_of
from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.stream import StreamBroadcaster

wt = ServerApp(config=configuration(bind_host="localhost"))
pages = StreamBroadcaster()
orders: list[str] = []
MAX_ORDERS = 100


@wt.route("/orders")
async def watch(session: WebTransportSession) -> None:
    stream = await session.create_unidirectional_stream()
    await stream.write(json.dumps(orders) + "\n")
    pages.add(stream)
    await session.wait_closed()


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with wt:
        await wt.server.listen(port=app.state.port)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=201)
async def order(what: str) -> dict[str, int]:
    orders.append(what[:200])
    del orders[:-MAX_ORDERS]
    return {"told": await pages.broadcast(json.dumps([what[:200]]) + "\n")}


@app.get("/settings.json")
async def settings() -> dict[str, str]:
    return settings_of(wt.server.config)


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGES / "fastapi.html")


app.mount("/", StaticFiles(directory=PAGES))


if __name__ == "__main__":
    app.state.port = arguments().parse_args().port
    print(f"Open http://localhost:{app.state.port}/", flush=True)
    uvicorn.run(app, host="localhost", port=app.state.port, log_level="warning")
