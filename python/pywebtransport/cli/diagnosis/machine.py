"""Whether this machine can serve: certificate, port, addresses, kernel, limits, clock."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime
import errno
import socket
import ssl
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from pywebtransport._engine.addresses import SocketAddress
from pywebtransport._engine.aioquic_endpoint import SOCKET_BUFFER_SIZE
from pywebtransport._engine.aioquic_tls import server_configuration
from pywebtransport._words import address_text
from pywebtransport.cli.diagnosis.certificate import (
    MAKE,
    check_chain,
    check_dates,
    describe,
    hash_fault,
    is_for,
)
from pywebtransport.cli.diagnosis.report import Report
from pywebtransport.client import WebTransportClient
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server import ServerApp
from pywebtransport.session import WebTransportSession

__all__ = ["Place", "examine"]

ANY = ("", "*", "::", "0.0.0.0")
SELF_TEST_PATH = "/doctor"
SELF_TEST_PATIENCE = 5.0
FEW_DESCRIPTORS = 256
"""A server has one socket for all its clients; files and databases need the rest."""
OLDEST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""A clock that is behind this was never set."""

SOL_UDP = 17
UDP_SEGMENT, UDP_GRO = 103, 104
"""<linux/udp.h>; Python has no names for them."""
CLOCK_UNSYNCHRONIZED = 5
"""What adjtimex(2) returns."""
TIMEX_SIZE = 512
"""Bytes, more than ``struct timex`` has on any machine."""


@dataclass(frozen=True)
class Place:
    """Where a server is to listen, and as whom."""

    host: str
    port: int
    certfile: str | None = None
    keyfile: str | None = None
    engine: str | None = None


async def examine(report: Report, place: Place) -> None:
    """Fill in the report; nothing on the machine is changed."""
    has_certificate = _check_certificate(report, place)
    is_free = await _check_port(report, place)
    _check_addresses(report, place)
    _check_buffers(report)
    _check_offload(report)
    _check_descriptors(report)
    _check_clock(report)
    if has_certificate and is_free:
        await _check_itself(report, place)
    else:
        report.skip("self-test", "needs a certificate that works and a free port")


def _check_certificate(report: Report, place: Place) -> bool:
    """Whether a server can show it."""
    certfile, keyfile = place.certfile, place.keyfile
    if not certfile or not keyfile:
        remedy = f"pass --certfile and --keyfile; {MAKE}"
        report.skip("certificate", "none given", remedy=remedy)
        return False
    try:
        server_configuration(ServerConfig(), certfile=certfile, keyfile=keyfile, key_log=None)
    except WebTransportError as error:
        report.fail(
            "certificate",
            error.message,
            cause="tls.pair",
            remedy="pass the PEM certificate as --certfile and its own, unencrypted key as "
            "--keyfile",
        )
        return False
    chain = x509.load_pem_x509_certificates(Path(certfile).read_bytes())
    leaf = chain[0]
    facts = describe(leaf)
    names = ", ".join(facts["names"]) or "no host"
    report.ok("certificate", f"for {names}; {facts['key']}; the key belongs to it", **facts)
    is_valid = check_dates(report, leaf)
    if place.host not in ANY and not is_for(leaf, place.host):
        report.warn(
            "name",
            f"the certificate is for {names}, not for {place.host}",
            cause="tls.name",
            remedy="clients must connect by a name that it has, or trust it by its hash",
        )
    if chain_fault := check_chain(chain):
        report.warn(
            "chain",
            chain_fault.replace("the server shows", f"{certfile} has"),
            cause="tls.incomplete_chain",
            remedy="use the whole chain (fullchain.pem, not cert.pem)",
        )
    _check_key_file(report, keyfile)
    if leaf.issuer == leaf.subject:
        _check_hash(report, leaf)
    return is_valid


def _check_key_file(report: Report, keyfile: str) -> None:
    mode = stat.S_IMODE(Path(keyfile).stat().st_mode)
    if sys.platform != "win32" and mode & stat.S_IROTH:
        report.warn(
            "key file",
            f"everybody on this machine can read {keyfile} (mode {mode:04o})",
            cause="tls.key_readable",
            remedy=f"chmod 600 {keyfile}",
        )


def _check_hash(report: Report, leaf: x509.Certificate) -> None:
    if fault := hash_fault(leaf):
        report.warn(
            "browser trust",
            f"browsers refuse it by its hash: {fault}",
            cause="tls.browsers",
            remedy=f"get one from an authority; {MAKE}",
        )
    else:
        report.ok(
            "browser trust",
            f"Chromium and Firefox take it by its hash {describe(leaf)['sha256']}",
        )


async def _check_port(report: Report, place: Place) -> bool:
    """Whether a server can listen there."""
    try:
        addresses = await _local_addresses(place)
    except OSError as error:
        report.fail(
            "port",
            f"{place.host} is no address of this machine: {error.strerror}",
            cause="port.no_address",
            remedy="listen on ::, 0.0.0.0 or an address that `ip address` shows",
        )
        return False
    for address in addresses:
        try:
            with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
                if address.version == 6:
                    dual_stack = place.host in ("", "::")
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
                sock.bind(address.address)
        except OSError as error:
            _report_unbound(report, address, error)
            return False
    places = ", ".join(address_text(address.address) for address in addresses)
    report.ok("port", f"UDP {places} is free")
    return True


async def _local_addresses(place: Place) -> list[SocketAddress]:
    host = "::" if place.host in ("", "*") else place.host
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(
        host, place.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )
    unique = dict.fromkeys((int(entry[0]), entry[4]) for entry in entries)
    return [SocketAddress(family, address) for family, address in unique]


def _report_unbound(report: Report, address: SocketAddress, error: OSError) -> None:
    place, port = address_text(address.address), address.address[1]
    match error.errno:
        case errno.EADDRINUSE:
            owner = _owner_of(port)
            report.fail(
                "port",
                f"UDP {place} is in use" + (f" by {owner}" if owner else ""),
                cause="port.in_use",
                remedy=f"stop that program (`ss -lunp sport = :{port}` shows it), or take another "
                "port",
                owner=owner or None,
            )
        case errno.EACCES:
            report.fail(
                "port",
                f"this user may not listen on UDP {place}: ports below 1024 are privileged",
                cause="port.privileged",
                remedy="sysctl net.ipv4.ip_unprivileged_port_start=443, or in systemd "
                "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            report.fail(
                "port",
                f"{place} is no address of this machine",
                cause="port.no_address",
                remedy="listen on ::, 0.0.0.0 or an address that `ip address` shows",
            )
        case _:
            report.fail(
                "port",
                f"cannot listen on UDP {place}: {error.strerror}",
                cause="port.other",
                remedy="look at what the operating system says",
            )


def _owner_of(port: int) -> str:
    """Name and number of the process with that UDP port; "" when this user cannot see it."""
    inodes = set()
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        name = (process / "comm").read_text().strip()
                        return f"{name} (process {process.name})"
    return ""


def _check_addresses(report: Report, place: Place) -> None:
    has_ipv6 = _can_bind(socket.AF_INET6, "::1")
    if place.host in ("127.0.0.1", "localhost") and has_ipv6:
        report.warn(
            "ipv6",
            f"a server on {place.host} may miss ::1, which browsers try for localhost",
            cause="ipv6.loopback",
            remedy="listen on ::, which serves IPv6 and IPv4",
        )
    elif not has_ipv6:
        remedy = "listen on 0.0.0.0, or turn IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0)"
        if place.host in ("", "*", "::") or ":" in place.host:
            report.fail(
                "ipv6", "this machine has no IPv6", cause="ipv6.off", remedy=remedy
            )  # fmt: skip
        else:
            report.ok("ipv6", "this machine has no IPv6, and is not asked to have it")
    else:
        report.ok("ipv6", "this machine has IPv6")


def _can_bind(family: int, host: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True


def _check_buffers(report: Report) -> None:
    """The kernel cuts what a socket asks for, without a word."""
    limits: dict[str, int] = {}
    for name in ("rmem_max", "wmem_max"):
        with contextlib.suppress(OSError, ValueError):
            limits[name] = int(Path(f"/proc/sys/net/core/{name}").read_text())
    if not limits:
        granted = _granted_buffer()
        if granted < SOCKET_BUFFER_SIZE:
            report.warn(
                "buffers",
                f"a UDP socket gets {granted:,} bytes of buffer, not {SOCKET_BUFFER_SIZE:,}",
                cause="kernel.buffers",
                remedy="raise the limit of socket buffers (macOS, BSD: kern.ipc.maxsockbuf)",
                granted=granted,
            )
        else:
            report.ok("buffers", f"a UDP socket gets {granted:,} bytes", granted=granted)
        return
    small = {name: value for name, value in limits.items() if value < SOCKET_BUFFER_SIZE}
    if not small:
        shown = ", ".join(f"net.core.{name} is {value:,}" for name, value in limits.items())
        report.ok("buffers", shown, **limits)
        return
    shown = ", ".join(f"net.core.{name} is {value:,}" for name, value in small.items())
    settings = " ".join(f"net.core.{name}={SOCKET_BUFFER_SIZE}" for name in small)
    report.warn(
        "buffers",
        f"{shown}, less than the {SOCKET_BUFFER_SIZE:,} bytes that a server asks for: packets of "
        "many clients may be dropped",
        cause="kernel.buffers",
        remedy=f"sysctl -w {settings}, and in /etc/sysctl.d for the next start",
        **limits,
    )


def _granted_buffer() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_SIZE)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _check_offload(report: Report) -> None:
    if sys.platform != "linux":
        report.skip("offload", "GSO and GRO are Linux's")
        return
    can = {"gso": _has_option(UDP_SEGMENT, 1200), "gro": _has_option(UDP_GRO, 1)}
    if all(can.values()):
        report.ok("offload", "the kernel takes and gives many packets at once (GSO, GRO)", **can)
    else:
        missing = " and ".join(name.upper() for name, has in can.items() if not has)
        report.warn(
            "offload",
            f"the kernel has no {missing} for UDP: a packet costs more",
            cause="kernel.offload",
            remedy="use Linux 5.0 or newer, without a sandbox such as gVisor around it",
            **can,
        )


def _has_option(option: int, value: int) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(SOL_UDP, option, value)
    except OSError:
        return False
    return True


def _check_descriptors(report: Report) -> None:
    if sys.platform == "win32":
        report.skip("descriptors", "Windows has no such limit")
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_DESCRIPTORS:
        report.warn(
            "descriptors",
            f"this process may open {soft} files; all clients share a socket, the rest of an "
            "application does not",
            cause="kernel.descriptors",
            remedy="ulimit -n 1024, or LimitNOFILE=1024 in systemd",
            soft=soft,
            hard=hard,
        )
    else:
        text = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        report.ok("descriptors", f"{text} open files; all clients share one socket", soft=soft)


def _check_clock(report: Report) -> None:
    now = datetime.datetime.now(datetime.UTC)
    words = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    remedy = "set it by NTP (timedatectl set-ntp true): certificates depend on it"
    if now < OLDEST:
        report.fail("clock", f"it says {words}, which is over", cause="clock", remedy=remedy)
    elif _is_unsynchronized():
        report.warn(
            "clock",
            f"it says {words}, and the kernel knows of no time server that keeps it right",
            cause="clock.unsynchronized",
            remedy=remedy,
        )
    else:
        report.ok("clock", words)


def _is_unsynchronized() -> bool:
    """What the kernel of Linux says; False where it says nothing."""
    if sys.platform != "linux":
        return False
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_SIZE))
    except (OSError, AttributeError):
        return False
    return bool(answer == CLOCK_UNSYNCHRONIZED)


async def _check_itself(report: Report, place: Place) -> None:
    """A server there, for a moment, and a client of it."""
    assert place.certfile and place.keyfile
    config = ServerConfig(
        bind_host=place.host,
        bind_port=place.port,
        certfile=place.certfile,
        keyfile=place.keyfile,
        engine=place.engine,
        access_log=False,
        graceful_timeout=0,
        close_timeout=1.0,
    )
    app = ServerApp(config=config)

    @app.route(SELF_TEST_PATH)
    async def greet(session: WebTransportSession) -> None:
        await session.wait_closed()

    host = {"": "localhost", "*": "localhost", "::": "::1", "0.0.0.0": "127.0.0.1"}.get(
        place.host, place.host
    )
    url = f"https://{address_text((host, place.port))}{SELF_TEST_PATH}"
    client_config = ClientConfig(
        verify_mode=ssl.CERT_NONE,
        engine=place.engine,
        connect_timeout=SELF_TEST_PATIENCE,
        close_timeout=1.0,
    )
    facts: dict[str, Any] = {"engine": place.engine}
    try:
        async with app:
            await app.server.listen()
            started = time.perf_counter()
            async with WebTransportClient(config=client_config) as client:
                session = await client.connect(url)
                facts["seconds"] = time.perf_counter() - started
                await session.close()
    except WebTransportError as error:
        report.fail(
            "self-test",
            f"a server there and a client on this machine do not meet: {error.message}",
            cause="self_test",
            remedy="let UDP through this machine's own firewall (nft list ruleset), and see above",
            **facts,
        )
        return
    milliseconds = facts["seconds"] * 1000
    report.ok("self-test", f"a client on this machine had a session in {milliseconds:.1f} ms",
              **facts)  # fmt: skip
