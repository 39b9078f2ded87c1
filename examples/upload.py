"""Upload with resume: the client names a file, hears how much of it is here, and sends the rest.

The first line is `name size`; the answer is the number of bytes that are here. At the end the
answer is the SHA-256 of the whole. What a broken connection has brought stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

from examples.local import arguments, configuration, run
from pywebtransport import ServerApp, WebTransportStream

LARGEST = 1 << 30
BAD_NAME, TOO_LARGE, BUSY = 40, 41, 42

app = ServerApp(config=configuration())
folder = Path("received")
busy: set[Path] = set()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@app.stream_route("/upload")
async def upload(stream: WebTransportStream) -> None:
    head = (await stream.readline(300)).decode()
    if not (words := re.fullmatch(r"(\w[\w.-]*) (\d{1,12})\n", head)):
        return await stream.abort(BAD_NAME)  # no folder of the client's choice
    path, size = folder / words[1], int(words[2])
    if size > LARGEST:
        return await stream.abort(TOO_LARGE)
    if path in busy:
        return await stream.abort(BUSY)
    busy.add(path)
    try:
        here = path.stat().st_size if path.exists() else 0
        if here > size:
            path.unlink()
            here = 0
        await stream.write(f"{here}\n")
        with path.open("ab") as file:
            async for chunk in stream.read_iter(chunk_size=1 << 18):
                here += len(chunk)
                if here > size:
                    return await stream.abort(TOO_LARGE)
                file.write(chunk)
                file.flush()
        await stream.write(f"{await asyncio.to_thread(sha256, path)}\n")
    finally:
        busy.discard(path)


if __name__ == "__main__":
    parser = arguments()
    parser.add_argument("--folder", type=Path, default=folder, help="where the files go")
    given = parser.parse_args()
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    run(app, "upload.html", given.port)
