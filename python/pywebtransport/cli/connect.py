"""``connect``: a session by hand, or in a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import click

from pywebtransport._loop import run
from pywebtransport._words import peer_text
from pywebtransport.cli.conversation import (
    STDIN,
    Conversation,
    FileSink,
    FileSource,
    Mode,
    StdinSource,
    StdoutSink,
)
from pywebtransport.cli.output import note
from pywebtransport.cli.visitor import Visitor, open_session, visitor_options
from pywebtransport.client import WebTransportClient

__all__ = ["command"]

STANDARD = "-"
"""Names standard output."""
TERMINATED = 143
"""128 and the number of SIGTERM, as shells count."""
PATIENCE = 2.0
"""Seconds of silence that end a conversation without a stream that could."""


@click.command(name="connect")
@visitor_options()
@click.option("--datagram", is_flag=True, help="Send each line as a datagram.")
@click.option("--uni", is_flag=True, help="Send on a stream that only this side writes.")
@click.option("--listen", is_flag=True, help="Send nothing: show what the server opens.")
@click.option(
    "--send",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Send this file instead of standard input.",
)
@click.option(
    "--receive",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what comes back to this file; - is standard output.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help=f"Silence that ends --uni and --datagram after the input's end ({PATIENCE:g}), and "
    "--listen (none does).",
)
def command(
    visitor: Visitor,
    engine: str | None,
    certfile: str | None,
    keyfile: str | None,
    datagram: bool,
    uni: bool,
    listen: bool,
    send: str | None,
    receive: str | None,
    wait: float | None,
) -> int:
    """Open a session at URL and talk over it.

    Standard input goes to a stream in both directions as it is, and what comes back goes to
    standard output. The input's end (Ctrl-D) ends the stream's sending side; the session is closed
    when the server has ended the other one. Ctrl-C closes it at once. What comes otherwise, streams
    that the server opens and datagrams, is shown on stderr, and so is the end: code and reason.

    \b
    Exit code 0: it ended well. 1: no connection, it was lost, the stream was reset, or
    the server closed the session with another code than 0. 2: asked wrongly. 130: Ctrl-C.
    143: SIGTERM.

    \b
    Examples:
      pywebtransport connect https://localhost:4433/echo --dev
      echo hello | pywebtransport connect https://example.org/echo
      pywebtransport connect https://example.org/files --send up.bin --receive down.bin
      pywebtransport connect https://example.org/game --datagram --header 'authorization: Bearer x'
      pywebtransport connect https://example.org/news --listen
    """
    if datagram + uni + listen > 1:
        raise click.UsageError("--datagram, --uni and --listen exclude each other")
    if send and (datagram or listen):
        raise click.UsageError("--send needs a stream: leave out --datagram and --listen")
    mode = (
        Mode.DATAGRAM if datagram else Mode.UNI if uni else Mode.LISTEN if listen else Mode.STREAM
    )
    if wait is None and mode is not Mode.LISTEN:
        wait = PATIENCE
    try:
        return run(talk(visitor, mode, send, receive, wait))
    except asyncio.CancelledError:
        return TERMINATED


async def talk(
    visitor: Visitor, mode: Mode, send: str | None, receive: str | None, patience: float | None
) -> int:
    """One session, from its beginning to its end; the exit code.

    SIGTERM cancels it, as Ctrl-C does: the session is closed.
    """
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with WebTransportClient(
        config=visitor.config(read_timeout=None, write_timeout=None)
    ) as client:
        session = await open_session(client, visitor)
        greet(visitor, mode, session.wt_protocol, is_interactive=send is None)
        conversation = Conversation(
            session,
            mode=mode,
            source=FileSource(send) if send else StdinSource(),
            sink=FileSink(receive) if receive and receive != STANDARD else StdoutSink(),
            patience=patience,
        )
        return await conversation.run()


def greet(visitor: Visitor, mode: Mode, protocol: str | None, *, is_interactive: bool) -> None:
    """For a person at a terminal: that it is open, and how to end it."""
    if not is_interactive or not os.isatty(STDIN):
        return
    chosen = f", protocol {peer_text(protocol)}" if protocol else ""
    ways = {
        Mode.STREAM: "Ctrl-D ends the stream, Ctrl-C the session",
        Mode.UNI: "Ctrl-D ends the stream, Ctrl-C the session",
        Mode.DATAGRAM: "each line is a datagram; Ctrl-D or Ctrl-C ends the session",
        Mode.LISTEN: "Ctrl-C ends the session",
    }
    note(f"connected to {visitor.url}{chosen}. {ways[mode]}.")
