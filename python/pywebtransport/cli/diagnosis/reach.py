"""From a name to an address where QUIC is spoken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from pywebtransport._engine.addresses import SocketAddress
from pywebtransport._words import address_text
from pywebtransport.cli.aside import Aside
from pywebtransport.cli.diagnosis.report import Report

__all__ = ["Answer", "Reply", "ask", "check_name", "check_udp", "explain_silence"]

DNS_PATIENCE = 4.0
UDP_PATIENCE = 2.0
TCP_PATIENCE = 1.0
REPEATS = (0.0, 0.3, 0.9)
"""When a packet without an answer is sent, in seconds."""
MAX_ADDRESSES = 8

UNKNOWN_VERSION = bytes.fromhex("1a2a3a4a")
"""Reserved to force version negotiation (RFC 9000 §15)."""
ID_SIZE = 8
INITIAL_SIZE = 1200
"""A server answers no smaller packet (RFC 9000 §14.1)."""


class Reply(StrEnum):
    """What came back over UDP."""

    QUIC = "quic"
    OTHER = "other"
    """Packets, but not QUIC's."""
    REFUSED = "refused"
    """The host says that nobody listens (ICMP port unreachable)."""
    UNREACHABLE = "unreachable"
    """There is no way there, says this machine or a router."""
    SILENT = "silent"


@dataclass(frozen=True)
class Answer:
    """What one address replied."""

    address: SocketAddress
    reply: Reply
    seconds: float = 0.0
    words: str = ""
    """The operating system's."""

    @property
    def place(self) -> str:
        """Address and port."""
        return address_text(self.address.address)


async def check_name(report: Report, host: str, port: int) -> list[SocketAddress]:
    """The addresses of a host, in the order in which clients try them; none: reported why."""
    with contextlib.suppress(ValueError):
        ip_address(host.partition("%")[0])
        found = await _look_up(host, port)
        report.ok("dns", f"{host} is an address: there is nothing to look up")
        return found
    started = time.perf_counter()
    try:
        async with asyncio.timeout(DNS_PATIENCE):
            found = await _look_up(host, port)
    except TimeoutError:
        report.fail(
            "dns",
            f"no name server answers for {host} within {DNS_PATIENCE:g} s",
            cause="dns.no_answer",
            remedy="check that this machine is online, and its name servers (/etc/resolv.conf)",
        )
        return []
    except socket.gaierror as error:
        unsure = error.errno == socket.EAI_AGAIN
        report.fail(
            "dns",
            f"cannot resolve {host}: {error.strerror}",
            cause="dns.no_answer" if unsure else "dns.not_found",
            remedy=(
                "check that this machine is online, and its name servers (/etc/resolv.conf)"
                if unsure
                else "correct the host in the URL, or add an A or AAAA record for it"
            ),
        )
        return []
    addresses = [address.host for address in found]
    report.ok(
        "dns",
        f"{host} is {', '.join(addresses)}",
        addresses=addresses,
        seconds=time.perf_counter() - started,
    )
    return found[:MAX_ADDRESSES]


async def check_udp(report: Report, host: str, addresses: list[SocketAddress]) -> list[Answer]:
    """What each address replied; a failure is reported when none of them can be tried further.

    Silence is not reported: there are servers that negotiate no version but do answer a client.
    """
    if _is_localhost(host) and len({address.family for address in addresses}) == 1:
        addresses = [*addresses, *_other_loopback(addresses[0])]
    answers = list(await asyncio.gather(*(ask(address) for address in addresses)))
    replies = {answer.reply for answer in answers}
    if Reply.QUIC in replies:
        return _report_spoken(report, host, answers)
    if Reply.SILENT in replies:
        return answers
    first = answers[0]
    if Reply.OTHER in replies:
        report.fail(
            "udp",
            f"what answers at {first.place} does not speak QUIC",
            cause="udp.not_quic",
            remedy="correct the port: another UDP service listens on this one",
        )
    elif Reply.REFUSED in replies:
        places = [answer.place for answer in answers if answer.reply is Reply.REFUSED]
        report.fail(
            "udp",
            f"nobody listens on UDP {' or '.join(places)}: the host says so (ICMP)",
            cause="udp.nobody_listens",
            remedy="start the server, or correct the port; it must listen on UDP, not on TCP"
            " (a firewall that rejects looks the same)",
            addresses=places,
        )
    else:
        report.fail(
            "udp",
            f"cannot reach {first.place}: {first.words}",
            cause="udp.unreachable",
            remedy="check this machine's network and routes to that address",
        )
    return answers


async def explain_silence(report: Report, answers: list[Answer]) -> None:
    """No packet came back, not even in a handshake: TCP tells whether the host is there."""
    silent = [answer for answer in answers if answer.reply is Reply.SILENT]
    place, address = silent[0].place, silent[0].address
    said = await _knock(address)
    if said == "open":
        text = f"{place} answers on TCP, but no packet comes back over UDP"
        cause = "udp.blocked"
    elif said == "refused":
        text = f"the host of {place} is there (it refuses TCP), but no packet comes back over UDP"
        cause = "udp.blocked"
    else:
        text = f"nothing comes back from {place}, over UDP or TCP"
        cause = "udp.silent"
    remedy = (
        f"let UDP port {address.address[1]} through every firewall on the way (host, cloud "
        "security group, router, this network), or correct the address"
    )
    report.fail("udp", text, cause=cause, remedy=remedy, tcp=said)


async def ask(address: SocketAddress) -> Answer:
    """Send a QUIC packet of an unknown version, to which every server has one short answer."""
    loop = asyncio.get_running_loop()
    replied: asyncio.Future[tuple[Reply, str]] = loop.create_future()
    ours, theirs = os.urandom(ID_SIZE), os.urandom(ID_SIZE)
    head = b"\xc0" + UNKNOWN_VERSION + bytes([ID_SIZE]) + theirs + bytes([ID_SIZE]) + ours
    packet = head.ljust(INITIAL_SIZE, b"\0")
    started = time.perf_counter()
    sock = socket.socket(address.family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(address.address)  # only a connected socket is told of ICMP
    except OSError as error:
        sock.close()
        return Answer(address, Reply.UNREACHABLE, words=error.strerror or str(error))
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Listener(replied, ours, theirs), sock=sock
    )
    try:
        async with asyncio.timeout(UDP_PATIENCE):
            for pause in REPEATS:
                if await _settled(replied, pause):
                    break
                transport.sendto(packet)
            reply, words = await replied
    except TimeoutError:
        return Answer(address, Reply.SILENT)
    finally:
        transport.close()
    return Answer(address, reply, time.perf_counter() - started, words)


class _Listener(asyncio.DatagramProtocol):
    def __init__(
        self, replied: asyncio.Future[tuple[Reply, str]], ours: bytes, theirs: bytes
    ) -> None:
        self._replied = replied
        self._wanted = bytes([ID_SIZE]) + ours + bytes([ID_SIZE]) + theirs

    def datagram_received(self, data: bytes, addr: Any) -> None:
        # RFC 8999 §6: version 0, and our ids the other way round.
        is_negotiation = len(data) > 5 and data[0] & 0x80 and data[1:5] == bytes(4)
        is_quic = is_negotiation and data[5:].startswith(self._wanted)
        self._settle(Reply.QUIC if is_quic else Reply.OTHER, "")

    def error_received(self, exc: Exception) -> None:
        words = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        refused = isinstance(exc, ConnectionRefusedError)
        self._settle(Reply.REFUSED if refused else Reply.UNREACHABLE, words)

    def _settle(self, reply: Reply, words: str) -> None:
        if not self._replied.done():
            self._replied.set_result((reply, words))


async def _settled(replied: asyncio.Future[Any], pause: float) -> bool:
    if pause:
        await asyncio.wait([replied], timeout=pause)
    return replied.done()


def _report_spoken(report: Report, host: str, answers: list[Answer]) -> list[Answer]:
    """At least one address speaks QUIC; the others are a warning."""
    spoken = [answer for answer in answers if answer.reply is Reply.QUIC]
    # An address that this machine has no way to says nothing about the server.
    dumb = [answer for answer in answers if answer.reply not in (Reply.QUIC, Reply.UNREACHABLE)]
    milliseconds = [round(answer.seconds * 1000, 2) for answer in spoken]
    text = ", ".join(
        f"{answer.place} speaks QUIC ({value:g} ms)"
        for answer, value in zip(spoken, milliseconds, strict=True)
    )
    for answer in answers:
        if answer.reply is Reply.UNREACHABLE:
            text += f"; from here there is no way to {answer.place}"
    if not dumb:
        report.ok("udp", text, milliseconds=milliseconds)
        return spoken
    said = ", ".join(f"{answer.place}: {answer.reply}" for answer in dumb)
    remedy = "listen on that address too (host='::' serves IPv6 and IPv4)"
    if not _is_localhost(host):
        remedy += ", or remove its DNS record"
    report.warn(
        "udp",
        f"{text}, but not {said}; browsers may try that one first",
        cause="udp.one_address",
        remedy=remedy,
        milliseconds=milliseconds,
    )
    return spoken


def _is_localhost(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _other_loopback(address: SocketAddress) -> list[SocketAddress]:
    """Browsers try both loopback addresses, whatever the hosts file says."""
    port = address.address[1]
    if address.version == 6:
        return [SocketAddress(socket.AF_INET, ("127.0.0.1", port))]
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return []  # this machine has no IPv6
    return [SocketAddress(socket.AF_INET6, ("::1", port, 0, 0))]


async def _knock(address: SocketAddress) -> str:
    """``open``, ``refused`` or ``silent``."""
    loop = asyncio.get_running_loop()
    with socket.socket(address.family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(TCP_PATIENCE):
                await loop.sock_connect(sock, address.address)
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "silent"
    return "open"


async def _look_up(host: str, port: int) -> list[SocketAddress]:
    def resolve() -> list[Any]:
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except UnicodeError as error:
            raise socket.gaierror(socket.EAI_NONAME, f"no host name: {error}") from error

    entries = await Aside("dns").call(resolve)
    unique = dict.fromkeys((int(entry[0]), entry[4]) for entry in entries)
    return [SocketAddress(family, address) for family, address in unique]
