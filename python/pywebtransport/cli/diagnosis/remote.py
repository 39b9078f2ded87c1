"""Everything between this machine and a session at a URL, in the order in which it can fail."""

from __future__ import annotations

import asyncio

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pywebtransport._engine.rules import CERTIFICATE_ALERTS, CRYPTO_ERROR, NO_APPLICATION_PROTOCOL
from pywebtransport._words import peer_text
from pywebtransport.cli.diagnosis.certificate import (
    MAKE,
    check_chain,
    check_dates,
    check_names,
    describe,
    hash_fault,
)
from pywebtransport.cli.diagnosis.dialects import check_settings
from pywebtransport.cli.diagnosis.handshake import ANY_ALPN, Handshake, Wanted, shake_hands
from pywebtransport.cli.diagnosis.reach import (
    Answer,
    Reply,
    check_name,
    check_udp,
    explain_silence,
)
from pywebtransport.cli.diagnosis.report import Report
from pywebtransport.cli.diagnosis.visit import (
    SHORT,
    Visit,
    attempt,
    check_session,
    trust_fault,
)
from pywebtransport.cli.visitor import Visitor
from pywebtransport.client import WebTransportClient
from pywebtransport.client.utils import parse_webtransport_url
from pywebtransport.constants import ALPN_H3, ErrorCodes

__all__ = ["diagnose"]

HANDSHAKE_PATIENCE = 4.0
ALPN_PATIENCE = 2.0

HANDSHAKE_FAILURE = 40
UNRECOGNIZED_NAME = 112
"""TLS alerts (RFC 8446 §6.2)."""
SEEN = ("expired", "not_yet_valid", "name")
"""Faults that the certificate shows by itself."""


async def diagnose(report: Report, visitor: Visitor, *, seconds: float) -> None:
    """Fill in the report, in so many seconds at most.

    Raises:
        ConfigurationError: The visitor's URL or trust cannot be used.
    """
    try:
        async with asyncio.timeout(seconds):
            await _diagnose(report, visitor)
    except TimeoutError:
        report.fail(
            "time",
            f"there was no time for more within {seconds:g} s",
            cause="time",
            remedy="give more with --timeout, or look for what is slow in the lines above",
        )


async def _diagnose(report: Report, visitor: Visitor) -> None:
    host, port, _ = parse_webtransport_url(url=visitor.url)
    own = visitor.config(close_timeout=SHORT)
    addresses = await check_name(report, host, port)
    if not addresses:
        return
    answers = await check_udp(report, host, addresses)
    usable = [answer for answer in answers if answer.reply in (Reply.QUIC, Reply.SILENT)]
    if not usable:
        return
    handshake = await _shake_hands(report, visitor, host, usable)
    if handshake is None:
        return
    async with WebTransportClient(config=own) as client:
        visit = await attempt(client, visitor.url)
        _check_certificate(report, visitor, host, handshake, visit)
        if not check_settings(report, handshake):
            return
        if trust_fault(visit.error) is None:
            await _check_and_leave(report, visitor, visit)
            return
    # What else is wrong shows only to those who trust it all the same.
    trusting = visitor.config(is_trusting=True, close_timeout=SHORT)
    async with WebTransportClient(config=trusting) as client:
        await _check_and_leave(report, visitor, await attempt(client, visitor.url))


async def _check_and_leave(report: Report, visitor: Visitor, visit: Visit) -> None:
    await check_session(report, visitor, visit)
    if visit.session is not None:
        await visit.session.close(reason="examined")


async def _shake_hands(
    report: Report, visitor: Visitor, host: str, answers: list[Answer]
) -> Handshake | None:
    """A complete handshake that speaks HTTP/3; None: reported why not."""
    answer = answers[0]
    wanted = Wanted(answer.address, host, visitor.certfile, visitor.keyfile)
    found = await shake_hands(wanted, patience=HANDSHAKE_PATIENCE)
    if answer.reply is Reply.SILENT:
        if not found.has_answered:
            await explain_silence(report, answers)
            return None
        report.ok("udp", f"{answer.place} answers, though it negotiates no QUIC version")
    if found.is_complete and found.alpn == ALPN_H3:
        milliseconds = found.seconds * 1000
        report.ok(
            "quic", f"TLS 1.3 and {ALPN_H3} in {milliseconds:.1f} ms", alpn=ALPN_H3,
            seconds=found.seconds,
        )  # fmt: skip
        return found
    if found.is_complete:
        _report_alpn(report, found.alpn)
    elif found.close_code in (
        CRYPTO_ERROR + NO_APPLICATION_PROTOCOL,
        CRYPTO_ERROR + HANDSHAKE_FAILURE,
    ):
        other = await shake_hands(wanted, patience=ALPN_PATIENCE, alpn=ANY_ALPN[1:])
        if other.is_complete or "ALPN" in found.close_reason:
            _report_alpn(report, other.alpn if other.is_complete else None)
        elif found.close_code == CRYPTO_ERROR + NO_APPLICATION_PROTOCOL:
            _report_alpn(report, None)
        else:
            _report_broken(report, found)
    else:
        _report_broken(report, found)
    return None


def _report_alpn(report: Report, other: str | None) -> None:
    spoken = f"it speaks {peer_text(other)}" if other else "it does not say what it speaks"
    report.fail(
        "quic",
        f"the server does not speak HTTP/3 (ALPN {ALPN_H3}): {spoken}",
        cause="alpn",
        remedy=f"let the server's TLS offer the ALPN protocol {ALPN_H3}, or correct the port",
        alpn=other,
    )


def _report_broken(report: Report, found: Handshake) -> None:
    code, reason = found.close_code, found.close_reason
    if code is None:
        report.fail(
            "quic",
            f"the server answers, but the handshake is not complete after {found.seconds:.1f} s",
            cause="quic.stalled",
            remedy="look for what drops larger UDP packets (MTU below 1,280, a tunnel, a VPN)",
        )
        return
    who = "the server ends" if found.is_closed_by_server else "this client ends"
    words = f": {peer_text(reason)}" if reason else ""
    text = f"{who} the handshake with code {code:#x}{words}"
    alert = code - CRYPTO_ERROR
    cause, remedy = "quic.closed", "look into the server's log for the reason"
    if code == ErrorCodes.CONNECTION_REFUSED:
        text = "the server takes no more connections"
        cause, remedy = "quic.refused", "wait, or raise the server's max_connections"
    elif alert == UNRECOGNIZED_NAME:
        cause, remedy = "tls.unrecognized_name", "connect by the name that the server is set up for"
    elif alert in CERTIFICATE_ALERTS and found.is_closed_by_server:
        cause = "tls.client_certificate"
        remedy = "show a certificate that the server accepts (--certfile, --keyfile)"
    elif alert >= 0:
        cause, remedy = "tls.failed", "look into the server's log, and at its TLS settings"
    report.fail("quic", text, cause=cause, remedy=remedy, code=code)


def _check_certificate(
    report: Report, visitor: Visitor, host: str, handshake: Handshake, visit: Visit
) -> None:
    if not handshake.certificates:
        report.fail(
            "trust",
            "the server shows no certificate",
            cause="tls.no_certificate",
            remedy="configure a certificate in the server",
        )
        return
    leaf = handshake.certificates[0]
    report.ok("certificate", _introduction(leaf), **describe(leaf))
    check_dates(report, leaf)
    if visitor.hashes:
        report.skip("name", "a certificate trusted by its hash may be for any name")
    else:
        check_names(report, leaf, host, is_needed=not visitor.is_trusting)
    fault = None if visitor.is_trusting else trust_fault(visit.error)
    _report_trust(report, visitor, handshake, fault)
    is_public = not (visitor.is_trusting or visitor.hashes or visitor.ca_certs or fault)
    _report_browsers(report, leaf, is_public=is_public)


def _report_trust(
    report: Report, visitor: Visitor, handshake: Handshake, fault: tuple[str, str] | None
) -> None:
    leaf = handshake.certificates[0]
    actual = leaf.fingerprint(SHA256()).hex()
    if visitor.is_trusting:
        report.skip("trust", "not checked (--insecure)")
        return
    if fault is None:
        by = "its hash" if visitor.hashes else visitor.ca_certs or "this machine's authorities"
        report.ok("trust", f"trusted by {by}")
        return
    kind, text = fault
    cause = f"tls.{kind}"
    if kind in SEEN and any(check.cause == cause for check in report.checks):
        report.skip("trust", "not known: it is refused for what is said above")
        return
    remedy = "look at what the server shows: `openssl x509 -text` on its certificate file"
    if kind == "hash":
        text = f"the certificate's SHA-256 is {actual}, not {' or '.join(visitor.hashes)}"
        remedy = f"was it made anew? Its hash now is {actual}"
    elif kind == "key" or kind == "lifetime":
        text = f"browsers, and this client, refuse it by its hash: {hash_fault(leaf) or text}"
        remedy = MAKE
    elif kind == "self_signed" or leaf.issuer == leaf.subject:
        cause = "tls.self_signed"
        text = "the certificate is self-signed: no authority vouches for it"
        remedy = (
            f"trust it by --hash {actual} or --ca FILE (in a program server_certificate_hashes or "
            "ca_certs), or get one from an authority"
        )
    elif kind == "unknown_issuer" and (chain := check_chain(handshake.certificates)):
        cause, text = "tls.incomplete_chain", f"{chain}; nobody here knows that one"
        remedy = (
            "let the server show the whole chain (fullchain.pem, not cert.pem), or pass --ca FILE "
            "if the authority is your own"
        )
    elif kind == "unknown_issuer":
        text = f"this machine does not know the authority {leaf.issuer.rfc4514_string()}"
        remedy = "pass --ca FILE with the authority's certificate (in a program ca_certs)"
    report.fail("trust", text, cause=cause, remedy=remedy, sha256=actual)


def _report_browsers(report: Report, leaf: x509.Certificate, *, is_public: bool) -> None:
    if is_public:
        report.ok("browser trust", "browsers trust it by an authority, like this machine")
        return
    fault = hash_fault(leaf)
    if fault:
        report.warn(
            "browser trust",
            f"browsers refuse it by its hash: {fault}",
            cause="tls.browsers",
            remedy=f"get one from an authority that they know; {MAKE}",
        )
        return
    report.ok(
        "browser trust",
        "Chromium and Firefox take it by its hash (serverCertificateHashes); Safari may not",
    )


def _introduction(leaf: x509.Certificate) -> str:
    facts = describe(leaf)
    issuer = "self-signed" if leaf.issuer == leaf.subject else f"issued by {facts['issuer']}"
    return f"{facts['subject'] or 'without a subject'}, {issuer}, {facts['key']}"
