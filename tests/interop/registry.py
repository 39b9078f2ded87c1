"""The peers: how each is run, and what each is known not to do, with the reason.

`make test-interop` builds what the commands name (the Makefile's PEERS).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pywebtransport._engine.select import ENGINES

__all__ = ["ENGINES", "PEERS", "ROLES", "ROOT", "Known", "Peer"]

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".cache/peers"
PROGRAMS = Path(__file__).with_name("peers")
ROLES = ("client", "server")


@dataclass(frozen=True)
class Known:
    """What is seen instead of what should be, since the peer does not do it."""

    seen: str
    """A regular expression for what `Seen` says."""
    why: str
    """The reason, for the table's readers: a sentence, or what is said of the peer by its name."""
    engine: str | None = None
    """Only on this engine of ours; None: on each."""
    sometimes: bool = False
    """It also works: the peer races with itself."""

    def matches(self, seen: str) -> bool:
        return re.search(self.seen, seen) is not None


@dataclass(frozen=True)
class Peer:
    name: str
    command: list[str]
    kind: str
    """What it is: for the table."""
    speaks: str
    """Its drafts: for the table."""
    roles: tuple[str, ...] = ROLES
    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    """By role of the peer and check."""

    def deviation(self, role: str, engine: str, check: str) -> Known | None:
        known = self.known.get((role, check))
        return known if known and known.engine in (None, engine) else None


def python(environment: str, program: str) -> list[str]:
    return [str(BUILT / environment / "bin/python"), str(PROGRAMS / program)]


def both_roles(**known: Known) -> dict[tuple[str, str], Known]:
    """For `subprotocol`, `flow_control` and so on, each a check's name."""
    return {(role, NAMES[name]): each for role in ROLES for name, each in known.items()}


NAMES = {
    "flow_control": "session flow control, small limits",
    "subprotocol": "a subprotocol",
    "unknown_path": "an unknown path",
}

NO_FLOW_CONTROL = Known(
    r"client: a stream beyond the limit opens at once",
    "The drafts that it speaks have no session flow control; QUIC's limits hold.",
)
NO_SUBPROTOCOL = Known(
    r"protocol is \{'client': None, 'server': None\}",
    "It does not negotiate subprotocols.",
)
NO_STATUS = Known(
    r"client: the answer is \{'status': None\}",
    "It tells its user that the session was rejected, not with which status.",
)
WEB_TRANSPORT_QUINN_REJECTS = Known(
    r"client: `connect`: .*(the connection was (closed|lost)|the server reset the request)",
    "The web-transport-quinn crate closes its control stream, and so the connection, together with "
    "a rejection.",
)
WEB_TRANSPORT_QUINN_IS_REJECTED = Known(
    r"client: `connect`: .*expected 200, got: Some\(404\)",
    "The web-transport-quinn crate tells its user of the status in the text of an error only.",
)

PEERS = [
    Peer("webtransport-go 0.13", [str(BUILT / "webtransport-go-0.13")], "Go module", "16, 02"),
    Peer(
        "webtransport-go 0.9",
        [str(BUILT / "webtransport-go-0.9")],
        "Go module",
        "02",
        known={
            **both_roles(flow_control=NO_FLOW_CONTROL, subprotocol=NO_SUBPROTOCOL),
            ("server", "stop code of the client"): Known(
                r"server: `stopped`: stream \d+ canceled by remote with error code 91141958510867",
                "tells a writer at times with the HTTP/3 code that its stream was stopped",
                sometimes=True,
            ),
        },
    ),
    Peer(
        "wtransport 0.7",
        [str(BUILT / "rust/debug/peer-wtransport")],
        "crate",
        "02, one setting of 07",
        known={
            **both_roles(flow_control=NO_FLOW_CONTROL, subprotocol=NO_SUBPROTOCOL),
            ("server", "close of the server at once"): Known(
                r"client: `connect`: .*bye",
                "may close the connection before its answer has left, and then sends nothing but "
                "CONNECTION_CLOSE, so `connect()` raises, with code and reason",
                sometimes=True,
            ),
            ("client", "an unknown path"): Known(
                r"client: the answer is \{'status': None\}",
                "tells its user that the session was rejected, not with which status",
            ),
        },
    ),
    Peer(
        "web-transport-quinn 0.13",
        [str(BUILT / "rust/debug/peer-web-transport-quinn")],
        "crate",
        "02, 07",
        known={
            **both_roles(flow_control=NO_FLOW_CONTROL),
            ("server", "an unknown path"): WEB_TRANSPORT_QUINN_REJECTS,
            ("client", "an unknown path"): WEB_TRANSPORT_QUINN_IS_REJECTED,
        },
    ),
    Peer(
        "aioquic 1.7",
        [sys.executable, str(PROGRAMS / "h3_peer.py"), "aioquic"],
        "PyPI, its own HTTP/3 layer",
        "02",
        known=both_roles(flow_control=NO_FLOW_CONTROL),
    ),
    Peer(
        "qh3 2.1",
        [sys.executable, str(PROGRAMS / "h3_peer.py"), "qh3"],
        "PyPI, its own HTTP/3 layer",
        "02",
        known=both_roles(flow_control=NO_FLOW_CONTROL),
    ),
    Peer(
        "pywebtransport 0.8.1",
        python("pywebtransport-0.8.1", "pywebtransport_081.py"),
        "PyPI",
        "13, capsules without DATA frames",
        known={
            **both_roles(
                subprotocol=NO_SUBPROTOCOL,
                flow_control=Known(
                    r"client: a stream beyond the limit opens at once",
                    "grants too little, so this library leaves it to QUIC's limits",
                ),
            ),
            **{
                (role, f"reset code of the {other}"): Known(
                    rf"{role}: (`ended` waits for ever|the end is {{'fin': True}})",
                    "does not tell a reader that its stream was reset",
                )
                for role, other in (ROLES, ROLES[::-1])
            },
            **{
                (role, f"stop code of the {other}"): Known(
                    rf"{role}: `stopped`: RuntimeError: .* after the stream was reset",
                    "tells a writer that its stream was stopped, not with which code",
                )
                for role, other in (ROLES, ROLES[::-1])
            },
            ("client", "close of the server at once"): Known(
                r"client: `closed` waits for ever",
                "tells of the end before `connect()` has returned and anybody can listen",
                sometimes=True,
            ),
        },
    ),
    Peer(
        "pywebtransport 0.21.1",
        python("pywebtransport-0.21.1", "pywebtransport_021.py"),
        "PyPI",
        "15, 16",
        known={
            ("client", "close of the server at once"): Known(
                r"client: the close is \{'code': None, 'reason': None\}",
                "tells of the end before `connect()` has returned and anybody can listen",
                sometimes=True,
            ),
            ("client", "an unknown path"): Known(
                r"client: `connect`: ClientError: wt_connection open failed .*0x10b",
                "tells its user that the session was rejected, not with which status",
            ),
        },
    ),
    Peer(
        "web-transport-quinn 0.1",
        python("web-transport-quinn-0.1", "web_transport_quinn_py.py"),
        "PyPI, bindings of the crate",
        "02, 07",
        known={
            **both_roles(flow_control=NO_FLOW_CONTROL, subprotocol=NO_SUBPROTOCOL),
            ("server", "an unknown path"): WEB_TRANSPORT_QUINN_REJECTS,
            ("client", "an unknown path"): WEB_TRANSPORT_QUINN_IS_REJECTED,
        },
    ),
    Peer(
        "peregrine-server 1.2",
        python("peregrine-server-1.2", "peregrine_server.py"),
        "PyPI, an ASGI server",
        "07, capsules without DATA frames",
        roles=("server",),
        known={
            ("server", "a subprotocol"): NO_SUBPROTOCOL,
            ("server", "session flow control, small limits"): NO_FLOW_CONTROL,
            ("server", "reset code of the client"): Known(
                r"server: the end is {'fin': True}",
                "tells its user of a reset as of an end",
            ),
            ("server", "reset code of the server"): Known(
                r"server: `reset`: cannot: ", "has no way to reset a stream"
            ),
            ("server", "stop code of the client"): Known(
                r"server: `stopped` waits for ever", "does not tell its user that a stream stopped"
            ),
            ("server", "stop code of the server"): Known(
                r"server: `stop`: cannot: ", "has no way to stop a stream"
            ),
            ("server", "close of the client, code and reason"): Known(
                r"server: the close is {'code': 0, 'reason': ''}",
                "reads no capsules in DATA frames, as RFC 9297 has them",
            ),
            **{
                ("server", f"close of the server{how}"): Known(
                    r"client: the close is {'code': 0, 'reason': ''}",
                    "sends its capsules without the DATA frames of RFC 9297",
                )
                for how in (", code and reason", " at once")
            },
        },
    ),
    Peer(
        "Chromium 156",
        [sys.executable, str(PROGRAMS / "browser.py"), "chromium"],
        "browser (Debian)",
        "02",
        roles=("client",),
        known={
            ("client", "session flow control, small limits"): NO_FLOW_CONTROL,
            ("client", "an unknown path"): NO_STATUS,
        },
    ),
    Peer(
        "Firefox ESR 153",
        [sys.executable, str(PROGRAMS / "browser.py"), "firefox"],
        "browser (Debian)",
        "02",
        roles=("client",),
        known={
            ("client", "a subprotocol"): NO_SUBPROTOCOL,
            ("client", "stop code of the client"): Known(
                r"server: `stopped` waits for ever",
                "sends no STOP_SENDING when a page cancels a stream",
            ),
            ("client", "reset code of the server"): Known(
                r"client: the end is \{'reset': None\}",
                "tells a page at times without its code that a stream was reset: the end of the "
                "data and the code come to the page on two ways",
                sometimes=True,
            ),
            ("client", "session flow control, small limits"): NO_FLOW_CONTROL,
            ("client", "an unknown path"): NO_STATUS,
        },
    ),
]
