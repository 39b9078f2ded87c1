"""Standard input and files into a session, and what comes back out of it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from pywebtransport._words import peer_text
from pywebtransport.cli.aside import Aside
from pywebtransport.cli.output import note
from pywebtransport.cli.progress import Progress
from pywebtransport.exceptions import StreamError, WebTransportError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)

__all__ = [
    "STDIN",
    "Conversation",
    "FileSink",
    "FileSource",
    "Mode",
    "Sink",
    "Source",
    "StdinSource",
    "StdoutSink",
]

CHUNK = 64 * 1024
STDIN, STDOUT = 0, 1
FAREWELL = 0.1
"""Seconds, and two round trips, in which a server may close behind its last byte."""
PART = ".part"
"""What is not whole yet has this at the end of its name."""
HARMLESS = "\n\t"
"""Control characters that may reach a terminal."""


class Mode(StrEnum):
    """What carries the input."""

    STREAM = "stream"
    UNI = "uni"
    DATAGRAM = "datagram"
    LISTEN = "listen"
    """Nothing does: the server alone speaks."""


class Source(Protocol):
    """Where bytes come from."""

    is_terminal: bool

    async def read(self) -> bytes:
        """Some bytes; b"" at the end."""


class Sink(Protocol):
    """Where bytes go."""

    async def write(self, data: bytes) -> None:
        """All of them; OSError when nobody takes them any more."""

    def finish(self, *, is_whole: bool) -> None:
        """There are no more."""


class StdinSource:
    """What is typed, piped or redirected; never more is taken than was asked for."""

    def __init__(self) -> None:
        self.is_terminal = os.isatty(STDIN)
        self._aside = Aside("stdin")
        _make_binary(STDIN)

    async def read(self) -> bytes:
        return await self._aside.call(os.read, STDIN, CHUNK)


class FileSource:
    """A file, with a progress bar."""

    is_terminal = False

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  # closed at its end
        total = os.fstat(self._file.fileno()).st_size
        self._progress = Progress(Path(path).name, total)

    async def read(self) -> bytes:
        data = b"" if self._file.closed else self._file.read(CHUNK)
        self._progress.advance(len(data))
        if not data:
            self._file.close()
            self._progress.__exit__()
        return data


class StdoutSink:
    """As it is into a file or a pipe; on a terminal what could steer it is spelled out."""

    def __init__(self) -> None:
        self._aside = Aside("stdout")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_terminal = os.isatty(STDOUT)
        _make_binary(STDOUT)

    async def write(self, data: bytes) -> None:
        if self._is_terminal:
            text = self._decoder.decode(data)
            data = "".join(map(_harmless, text)).encode()
        await self._aside.call(_write_all, data)

    def finish(self, *, is_whole: bool) -> None:
        pass


class FileSink:
    """A file, with a progress bar; it has its name when it is whole."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO = open(path + PART, "wb")  # noqa: SIM115  # closed by finish()
        self._progress = Progress(Path(path).name)

    async def write(self, data: bytes) -> None:
        self._file.write(data)
        self._progress.advance(len(data))

    def finish(self, *, is_whole: bool) -> None:
        self._file.close()
        self._progress.__exit__()
        if is_whole:
            os.replace(self._path + PART, self._path)
        else:
            note(f"what came is in {self._path + PART}")


class Conversation:
    """One session's.

    Args:
        session: Established.
        mode: What carries the input.
        source: The input.
        sink: Takes what comes back: the bytes of the stream; with ``UNI`` and ``LISTEN`` those of
            the streams that the server opens, one after the other; with ``DATAGRAM`` a line for
            each datagram. What comes otherwise is shown on stderr.
        patience: After the input's end, with no stream that could end: so many seconds of silence
            end the session; None: only the server does.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        mode: Mode,
        source: Source,
        sink: Sink,
        patience: float | None,
    ) -> None:
        self._session = session
        self._mode = mode
        self._source = source
        self._sink = sink
        self._patience = patience
        self._heard = asyncio.Event()
        self._failure = ""
        self._input: asyncio.Task[None] | None = None
        self._shows: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until one side is done; the exit code."""
        closed = asyncio.create_task(self._session.wait_closed())
        sending = asyncio.create_task(self._talk())
        streams = asyncio.create_task(self._take_streams())
        datagrams = asyncio.create_task(self._take_datagrams())
        tasks = {closed, sending, streams, datagrams}
        waiting = tasks
        is_whole = False
        try:
            while not (closed.done() or sending.done()):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            if closed.done():
                # What arrived before the end is still to be read.
                self._heard.set()
                if self._input is not None:
                    self._input.cancel()
                await asyncio.gather(*tasks)
            is_whole = not self._failure and self._has_ended_well()
        except BrokenPipeError:
            self._failure = "nobody reads the output any more"
        finally:
            left = [*tasks, *self._shows, *filter(None, [self._input])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._sink.finish(is_whole=is_whole)
        await self._session.close()
        self._tell_end()
        return 0 if is_whole else 1

    # what goes out

    async def _talk(self) -> None:
        try:
            await self._talk_until_done()
        except WebTransportError as error:
            self._fail(error)

    async def _talk_until_done(self) -> None:
        session = self._session
        match self._mode:
            case Mode.STREAM:
                stream = await session.create_bidirectional_stream()
                self._input = asyncio.create_task(self._send(stream))
                await self._receive(stream)
                if self._source.is_terminal or self._failure:
                    self._input.cancel()
                await self._input_ended()
                await asyncio.sleep(FAREWELL + 2 * session.latency)  # ends early when it closes
                return
            case Mode.UNI:
                outgoing = await session.create_unidirectional_stream()
                self._input = asyncio.create_task(self._send(outgoing))
                await self._input_ended()
            case Mode.DATAGRAM:
                self._input = asyncio.create_task(self._send_datagrams())
                await self._input_ended()
        await self._silence()

    async def _send(self, stream: WebTransportSendStream) -> None:
        """Everything, then FIN."""
        try:
            while data := await self._source.read():
                await stream.write(data)
            await stream.write(b"", end_stream=True)
        except StreamError as error:
            self._fail(error)

    async def _send_datagrams(self) -> None:
        transport = await self._session.create_datagram_transport()
        async for line in _lines(self._source):
            try:
                await transport.send(line)
            except WebTransportError as error:
                if self._session.is_closed:
                    return
                note(f"not sent: {error.message}")
                self._failure = error.message

    async def _input_ended(self) -> None:
        assert self._input is not None
        await asyncio.wait((self._input,))
        if not self._input.cancelled():
            self._input.result()

    async def _silence(self) -> None:
        """Wait until nothing has come for a while; for ever without patience."""
        while not self._session.is_closed:
            self._heard.clear()
            try:
                async with asyncio.timeout(self._patience):
                    await self._heard.wait()
            except TimeoutError:
                return

    # what comes back

    async def _receive(self, stream: WebTransportReceiveStream | WebTransportStream) -> None:
        try:
            while data := await stream.read(CHUNK):
                self._heard.set()
                await self._sink.write(data)
        except WebTransportError as error:
            self._fail(error)

    async def _take_streams(self) -> None:
        takes = self._mode in (Mode.UNI, Mode.LISTEN)
        async for stream in self._session.incoming_streams():
            self._heard.set()
            if takes:
                await self._receive(stream)
            else:
                task = asyncio.create_task(self._show(stream))
                self._shows.add(task)
                task.add_done_callback(self._shows.discard)
        await asyncio.gather(*self._shows)

    async def _show(self, stream: WebTransportReceiveStream | WebTransportStream) -> None:
        number = stream.stream_id
        try:
            while data := await stream.read(CHUNK):
                note(f"< stream {number}: {_shown(data)}")
            note(f"< stream {number} ended")
        except WebTransportError as error:
            note(f"< stream {number}: {error.message}")

    async def _take_datagrams(self) -> None:
        with contextlib.suppress(WebTransportError):  # the session's end is told elsewhere
            async for datagram in await self._session.create_datagram_transport():
                self._heard.set()
                if self._mode is Mode.DATAGRAM:
                    await self._sink.write(datagram + b"\n")
                else:
                    note(f"< datagram: {_shown(datagram)}")

    # the end

    def _fail(self, error: WebTransportError) -> None:
        """A stream has failed; if its session has ended, that is what will be told."""
        if not self._session.is_closed:
            self._failure = error.message

    def _has_ended_well(self) -> bool:
        session = self._session
        return not session.is_closed or (session.closed_by == "remote" and not session.close_code)

    def _tell_end(self) -> None:
        session = self._session
        if self._failure:
            note(self._failure)
        reason = f", {peer_text(session.close_reason)}" if session.close_reason else ""
        if session.closed_by == "transport":
            note(f"the connection was lost{reason}")
        elif session.closed_by == "remote" and session.close_error is not None:
            note(f"the server reset the session with HTTP/3 code {session.close_error:#x}")
        elif session.closed_by == "remote" and (session.close_code or reason):
            note(f"the server closed the session: code {session.close_code}{reason}")


async def _lines(source: Source) -> AsyncIterator[bytes]:
    """Without their ends; the last may have none."""
    rest = b""
    while data := await source.read():
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]


def _harmless(character: str) -> str:
    if character.isprintable() or character in HARMLESS:
        return character
    return "" if character == "\r" else character.encode("unicode_escape").decode("ascii")


def _shown(data: bytes) -> str:
    return peer_text(data.decode("utf-8", "backslashreplace"))


def _make_binary(descriptor: int) -> None:
    """Windows would turn line ends into its own."""
    if sys.platform == "win32":
        import msvcrt

        with contextlib.suppress(OSError):
            msvcrt.setmode(descriptor, os.O_BINARY)
