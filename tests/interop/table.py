"""The table of docs/reference/peers.md: who does what with us, from what the suite sees."""

from __future__ import annotations

from collections.abc import Callable

from tests.interop.checks import CHECKS
from tests.interop.registry import ENGINES, PEERS, ROLES, ROOT, Known, Peer

DOCUMENT = ROOT / "docs/reference/peers.md"
HEAD = """\
# Browsers and peers that were tested

Written by `make interop-table`; `tests/interop` makes each check with each peer, in both roles, on
both engines of this library, and fails where what it sees is not what stands here. What the checks
do stands in `tests/interop/checks.py`, how a peer is driven in `tests/interop/peers`.

A number is a note below: what the peer does not do, as the suite saw it.
"""
TAIL = """\
## Not in the tables

- webtransport-py 2026.1.0.dev0 (PyPI, on ngtcp2): it makes sessions with this library in both
  roles, but no stream's bytes pass. Between the client and the server of its own README neither
  streams nor datagrams pass.
"""

Cell = Callable[[Peer, str, str, str], Known | None]
"""What is known of a peer, its role, an engine and a check; None: it works."""


def render(cell: Cell) -> str:
    notes: dict[str, int] = {}
    parts = [HEAD, peers()]
    for role in ROLES:
        parts.append(role_table(role, cell, notes))
    lines = [f"{number}. {why}" for why, number in notes.items()]
    parts.append("## Notes\n\n" + "\n".join(lines) + "\n")
    parts.append(TAIL)
    return "\n".join(parts)


def peers() -> str:
    rows = [
        f"| {letter} | {peer.name} | {peer.kind} | {peer.speaks} |"
        for letter, peer in zip(LETTERS, PEERS, strict=False)
    ]
    return "\n".join(["|  | peer | what it is | speaks |", "| --- | --- | --- | --- |", *rows, ""])


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def role_table(role: str, cell: Cell, notes: dict[str, int]) -> str:
    columns = [
        (letter, peer) for letter, peer in zip(LETTERS, PEERS, strict=False) if role in peer.roles
    ]
    lines = [
        f"## The peer as the {role}",
        "",
        f"| check | {' | '.join(letter for letter, _ in columns)} |",
        f"| --- |{' --- |' * len(columns)}",
    ]
    for check in CHECKS:
        cells = [text(peer, role, check, cell, notes) for _, peer in columns]
        lines.append(f"| {check} | {' | '.join(cells)} |")
    missing = [peer for peer in PEERS if role not in peer.roles]
    if missing:
        names = ", ".join(peer.name for peer in missing)
        lines += ["", f"No {role}: {names}."]
    return "\n".join([*lines, ""])


def text(peer: Peer, role: str, check: str, cell: Cell, notes: dict[str, int]) -> str:
    by_engine = {}
    for engine in ENGINES:
        known = cell(peer, role, engine, check)
        by_engine[engine] = "yes"
        if known is not None:
            note = known.why if known.why[0].isupper() else f"{peer.name} {known.why}."
            by_engine[engine] = str(notes.setdefault(note, len(notes) + 1))
    if len(set(by_engine.values())) == 1:
        return by_engine[ENGINES[0]]
    return ", ".join(f"{engine} {seen}" for engine, seen in by_engine.items())
