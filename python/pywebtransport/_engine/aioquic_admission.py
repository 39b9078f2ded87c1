"""Whom a server of the aioquic engine lets in: how many, from where, and after which proof.

A handshake whose client has not shown that it can be reached at its address costs nobody else a
place: there are few of them, and from then on newcomers have to show it first (RFC 9000 §8.1.2).
"""

from __future__ import annotations

from collections import Counter

from pywebtransport._engine.addresses import Network, network_of
from pywebtransport._engine.rules import retry_above

__all__ = ["Admission"]


class Admission:
    """The places of one listener. A member is a connection; each is entered and leaves once."""

    def __init__(
        self, *, max_connections: int, max_per_address: int | None, always_retry: bool
    ) -> None:
        self._max_connections = max_connections
        self._max_per_address = max_connections if max_per_address is None else max_per_address
        self._retry_above = 0 if always_retry else retry_above(max_connections)
        self._handshakes: dict[object, Network] = {}
        """Members whose handshake is not complete."""
        self._counted: dict[object, Network] = {}
        """Members whose address is known to be theirs; only they take a place."""
        self._of_network: Counter[Network] = Counter()

    @property
    def must_prove_address(self) -> bool:
        """Whether a newcomer without a token is sent a Retry packet."""
        return len(self._handshakes) >= self._retry_above

    @property
    def is_full(self) -> bool:
        """Whether all places are taken."""
        return len(self._counted) >= self._max_connections

    def has_place(self, host: str) -> bool:
        """Whether a newcomer from there finds a place."""
        return not self.is_full and self._of_network[network_of(host)] < self._max_per_address

    def enter(self, member: object, host: str, *, is_proven: bool) -> None:
        """A handshake begins."""
        network = network_of(host)
        self._handshakes[member] = network
        if is_proven:
            self._count(member, network)

    def establish(self, member: object, host: str) -> bool:
        """Its handshake is complete, which proves the address too. False: its place is taken."""
        network = self._handshakes.pop(member)
        if member not in self._counted:
            if not self.has_place(host):
                return False
            self._count(member, network)
        return True

    def leave(self, member: object) -> None:
        self._handshakes.pop(member, None)
        network = self._counted.pop(member, None)
        if network is not None:
            self._of_network[network] -= 1
            if not self._of_network[network]:
                del self._of_network[network]

    def _count(self, member: object, network: Network) -> None:
        self._counted[member] = network
        self._of_network[network] += 1
