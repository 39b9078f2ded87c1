"""How a register hears that something which ends once has ended."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Ending", "Register"]


class Register(Protocol):
    """Has members until they end."""

    def _member_ended(self, member: Any) -> None: ...
    def _member_replaced(self, member: Any) -> None: ...


class Ending:
    """A connection, session or stream: tells the registers that it is in, at once, when it ends."""

    _registers: list[Register] | None

    def _join(self, register: Register) -> None:
        if self._registers is None:
            self._registers = []
        self._registers.append(register)

    def _leave(self, register: Register) -> None:
        if self._registers is not None and register in self._registers:
            self._registers.remove(register)

    def _replace(self, previous: Ending) -> None:
        """Be where ``previous``, another object for the same thing, has been."""
        self._registers, previous._registers = previous._registers, None
        for register in self._registers or ():
            register._member_replaced(self)

    def _leave_all(self) -> None:
        """It has ended."""
        registers, self._registers = self._registers, None
        for register in registers or ():
            register._member_ended(self)
