"""What a client of this library meets: trust, the answer to its request, datagrams, credit."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pywebtransport._words import peer_text
from pywebtransport.cli.diagnosis.report import Report
from pywebtransport.cli.visitor import ORIGIN, Visitor
from pywebtransport.client import WebTransportClient
from pywebtransport.exceptions import (
    ClientError,
    ConnectCertificateError,
    ConnectTimeoutError,
    WebTransportError,
)
from pywebtransport.protocol.session_info import WebTransportSessionInfo
from pywebtransport.session import WebTransportSession

__all__ = ["SHORT", "Visit", "attempt", "check_session", "trust_fault"]

SHORT = 1.0
"""Seconds for what a server that is there does at once."""
COMFORTABLE_DATAGRAM = 1000
"""Bytes; less than that hardly pays, and a QUIC packet has room for more (RFC 9000 §14)."""
UNLIMITED = 2**48
SLOW = 0.3
"""Seconds of a round trip above which a page feels it."""

STATUSES: Mapping[int, tuple[str, str]] = {
    301: ("redirect", "use the address of the Location field: sessions follow no redirect"),
    302: ("redirect", "use the address of the Location field: sessions follow no redirect"),
    307: ("redirect", "use the address of the Location field: sessions follow no redirect"),
    308: ("redirect", "use the address of the Location field: sessions follow no redirect"),
    400: ("bad_request", "the server does not understand the request: look into its log"),
    401: ("unauthorized", "send what the server wants, as in --header 'authorization: Bearer ...'"),
    403: (
        "forbidden",
        "send what the server wants (--header, --origin), or let it accept this client",
    ),
    404: ("not_found", "correct the path of the URL, or add a route for it to the server"),
    405: ("no_connect", "this address takes no CONNECT: correct the path, or enable WebTransport"),
    421: ("misdirected", "this server is not responsible for that name: correct the host or DNS"),
    429: ("too_many", "wait, or raise the server's limits (max_sessions, its rate limiter)"),
    500: ("server_error", "the server failed: look into its log"),
    501: ("no_connect", "the server knows no extended CONNECT: enable WebTransport in it"),
    502: (
        "gateway",
        "the proxy in front does not pass WebTransport on: go past it to the server",
    ),
    503: ("unavailable", "the server is overloaded or shutting down: wait, look into its log"),
    504: ("gateway", "the proxy in front got no answer: look whether the server behind it runs"),
}


@dataclass
class Visit:
    """What one attempt came to."""

    session: WebTransportSession | None
    error: ClientError | None
    seconds: float


async def attempt(client: WebTransportClient, url: str) -> Visit:
    """One session on a connection of its own."""
    started = time.perf_counter()
    try:
        session = await client.connect(url)
    except ClientError as error:
        return Visit(None, error, time.perf_counter() - started)
    return Visit(session, None, time.perf_counter() - started)


async def check_session(report: Report, visitor: Visitor, visit: Visit) -> None:
    """Report how the server answered; with a session, try what one does in it."""
    if visit.session is None:
        assert visit.error is not None
        await _report_refusal(report, visitor, visit.error)
        return
    session = visit.session
    text = f"the server accepts the session in {visit.seconds * 1000:.1f} ms"
    if session.wt_protocol:
        text += f", protocol {peer_text(session.wt_protocol)}"
    report.ok(
        "session",
        text,
        status=200,
        seconds=visit.seconds,
        protocol=session.wt_protocol,
        engine=session.connection.config.engine,
    )
    if visitor.protocols and not session.wt_protocol:
        report.warn(
            "protocol",
            f"the server chooses none of the protocols {', '.join(visitor.protocols)}",
            cause="session.protocol",
            remedy="add one of them to the server's wt_available_protocols",
        )
    _report_origin(report, visitor)
    await _check_datagrams(report, session)
    info = session.connection.get_session_info(session_id=session.session_id)
    await _check_streams(report, session, info)
    await _check_more_sessions(report, visitor, session)
    _check_path(report, session)


async def _report_refusal(report: Report, visitor: Visitor, error: ClientError) -> None:
    status = error.status_code
    if status is None:
        _report_no_answer(report, error)
        return
    word, remedy = _advice(status)
    text = f"the server refuses the session with status {status}"
    headers = error.headers or {}
    facts: dict[str, Any] = {"status": status}
    if (location := headers.get("location")) is not None:
        text += f", Location {peer_text(location)}"
        facts["location"] = location
    if (pause := headers.get("retry-after")) is not None:
        text += f", Retry-After {peer_text(pause)}"
        facts["retry_after"] = pause
        remedy = f"wait as long as Retry-After says ({pause}); {remedy}"
    if status == 403 and ORIGIN in visitor.headers:
        alone = await _status_without_origin(visitor)
        if alone != status:
            origin = visitor.headers[ORIGIN]
            report.fail(
                "origin",
                f"the server refuses pages of {origin} with status 403, and not a program that "
                "sends no Origin",
                cause="origin.refused",
                remedy=f"add {origin!r} to the server's allowed origins (allowed_origins)",
                origin=origin,
                **facts,
            )
            return
    report.fail("session", text, cause=f"session.{word}", remedy=remedy, **facts)


def _advice(status: int) -> tuple[str, str]:
    return STATUSES.get(status, STATUSES[500 if status >= 500 else 400])


def _report_no_answer(report: Report, error: ClientError) -> None:
    if isinstance(error, ConnectCertificateError):
        report.fail(
            "session",
            f"the server wants a certificate of its client: {error.message}",
            cause="tls.client_certificate",
            remedy="show one that it accepts (--certfile, --keyfile; in a program the same names)",
        )
        return
    if isinstance(error, ConnectTimeoutError):
        report.fail(
            "session",
            "the server does not answer the request for a session",
            cause="session.no_answer",
            remedy="look whether its handler waits for something before it accepts the session",
        )
        return
    report.fail(
        "session",
        f"no session: {error.message}",
        cause="session.reset",
        remedy="look into the server's log: it ended the request without an answer",
        error_code=error.error_code,
    )


async def _status_without_origin(visitor: Visitor) -> int | None:
    """What the server answers to a program; None: it accepts it, or is gone."""
    alone = {name: value for name, value in visitor.headers.items() if name != ORIGIN}
    config = visitor.config(is_trusting=True, headers=alone)
    async with WebTransportClient(config=config) as client:
        visit = await attempt(client, visitor.url)
        if visit.session is not None:
            await visit.session.close()
    return None if visit.error is None else visit.error.status_code


def _report_origin(report: Report, visitor: Visitor) -> None:
    origin = visitor.headers.get(ORIGIN)
    if origin is None:
        report.skip(
            "origin",
            "not asked",
            remedy="pass --origin https://your.page to see whether its pages are let in",
        )
    else:
        report.ok("origin", f"pages of {origin} are let in", origin=origin)


async def _check_datagrams(report: Report, session: WebTransportSession) -> None:
    try:
        size = (await session.create_datagram_transport()).max_datagram_size
    except WebTransportError:
        return  # the session has ended meanwhile, which the streams tell
    if not size:
        report.warn(
            "datagrams",
            "the server takes no datagrams",
            cause="datagrams.refused",
            remedy="allow DATAGRAM frames in the server's QUIC (max_datagram_frame_size)",
            max_size=0,
        )
    elif size < COMFORTABLE_DATAGRAM:
        report.warn(
            "datagrams",
            f"datagrams carry {size} bytes at most",
            cause="datagrams.small",
            remedy="raise the server's max_datagram_size, or the MTU of the way (a tunnel, a VPN)",
            max_size=size,
        )
    else:
        report.ok("datagrams", f"up to {size} bytes each", max_size=size)


async def _check_streams(
    report: Report, session: WebTransportSession, info: WebTransportSessionInfo | None
) -> None:
    """Whether a client may open streams, and what session flow control allows."""
    facts: dict[str, Any] = {}
    credit = "no session flow control: QUIC's windows alone are the limit"
    if info is not None and (info.peer_max_data or info.peer_max_streams_bidi):
        facts = {
            "max_data": info.peer_max_data,
            "max_streams_bidi": info.peer_max_streams_bidi,
            "max_streams_uni": info.peer_max_streams_uni,
        }
        credit = "session credit without a practical limit"
        if min(facts.values()) < UNLIMITED:
            credit = (
                f"session credit for {_amount(info.peer_max_data)} bytes, "
                f"{_amount(info.peer_max_streams_bidi)} bidirectional and "
                f"{_amount(info.peer_max_streams_uni)} unidirectional streams"
            )
    try:
        for create in (session.create_bidirectional_stream, session.create_unidirectional_stream):
            stream = await create(timeout=SHORT)
            await stream.abort()
    except WebTransportError as error:
        if session.is_closed:
            report.warn(
                "streams",
                f"the server ended the session at once: {_end_words(session)}",
                cause="session.ended",
                remedy="look into the server's log: did its handler return, or fail?",
            )
            return
        report.fail(
            "streams",
            f"a client cannot open a stream: {error.message}; {credit}",
            cause="flow.no_streams",
            remedy="raise the server's stream limits (QUIC's and WT_INITIAL_MAX_STREAMS_*)",
            **facts,
        )
        return
    report.ok("streams", credit, **facts)


async def _check_more_sessions(
    report: Report, visitor: Visitor, session: WebTransportSession
) -> None:
    if session.is_closed:
        return
    connection = session.connection
    config = visitor.config(is_trusting=True)
    authority = session.headers.get(":authority") or re.split(r"[/?#]", visitor.url)[2]
    try:
        async with asyncio.timeout(SHORT):
            second = await connection.create_session(
                authority=authority, path=session.path, headers=config.headers
            )
        await second.close(close_connection=False)
    except (WebTransportError, TimeoutError) as error:
        status = getattr(error, "status_code", None)
        text = "one session on a connection: a second one is refused"
        remedy = (
            "open a connection for each session, or let the server offer session flow control "
            "(WT_INITIAL_MAX_*; in this library session_credit, on by default)"
        )
        if status is not None:
            text = f"a second session, on the same connection, is refused with status {status}"
            remedy = _advice(status)[1]
        report.warn("sessions", text, cause="flow.one_session", remedy=remedy)
        return
    report.ok("sessions", "several sessions share a connection")


def _check_path(report: Report, session: WebTransportSession) -> None:
    stats = session.stats()
    rtt = stats.min_rtt or stats.smoothed_rtt
    text = f"round trip {rtt * 1000:.1f} ms"
    if rtt > SLOW:
        report.warn(
            "path",
            f"{text}, which users notice",
            cause="path.slow",
            remedy="move the server nearer to its clients, or look for a congested link",
            rtt=rtt,
        )
    else:
        report.ok("path", text, rtt=rtt)


def trust_fault(error: ClientError | None) -> tuple[str, str] | None:
    """What the client says of the server's certificate: one word, and its text."""
    if not isinstance(error, ConnectCertificateError) or error.certificate_error == "refused":
        return None
    return error.certificate_error or "other", error.message


def _end_words(session: WebTransportSession) -> str:
    reason = session.close_reason
    return f"code {session.close_code}" + (f", {peer_text(reason)}" if reason else "")


def _amount(value: int) -> str:
    return "any number of" if value >= UNLIMITED else f"{value:,}"
