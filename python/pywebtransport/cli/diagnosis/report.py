"""What was looked at, what came of it, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Check", "Outcome", "Report"]


class Outcome(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not for everybody or not for long."""
    FAILURE = "failure"
    SKIPPED = "skipped"
    """Not looked at; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of a report."""

    name: str
    outcome: Outcome
    text: str
    cause: str = ""
    """What is wrong, as a word for programs such as ``tls.expired``; "" when nothing is."""
    remedy: str = ""
    """One sentence."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was measured, by name; JSON's types only."""


class Report:
    """The checks in their order; ``tell`` is called with each as soon as it is known."""

    def __init__(self, tell: Callable[[Check], None] | None = None) -> None:
        self.checks: list[Check] = []
        self._tell = tell

    @property
    def failures(self) -> list[Check]:
        """What keeps clients out."""
        return [check for check in self.checks if check.outcome is Outcome.FAILURE]

    @property
    def warnings(self) -> list[Check]:
        """What keeps some clients out, or soon will."""
        return [check for check in self.checks if check.outcome is Outcome.WARNING]

    def ok(self, name: str, text: str, **facts: Any) -> None:
        """Nothing is wrong."""
        self._add(Check(name=name, outcome=Outcome.OK, text=text, facts=facts))

    def skip(self, name: str, text: str, *, remedy: str = "") -> None:
        """Not looked at."""
        self._add(Check(name=name, outcome=Outcome.SKIPPED, text=text, remedy=remedy))

    def warn(self, name: str, text: str, *, cause: str, remedy: str, **facts: Any) -> None:
        """It works, but not for everybody or not for long."""
        self._wrong(Outcome.WARNING, name, text, cause, remedy, facts)

    def fail(self, name: str, text: str, *, cause: str, remedy: str, **facts: Any) -> None:
        """It does not work."""
        self._wrong(Outcome.FAILURE, name, text, cause, remedy, facts)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``ok`` (no failure), ``cause`` (of the first failure, or None), ``checks``."""
        failures = self.failures
        return {
            "ok": not failures,
            "cause": failures[0].cause if failures else None,
            "checks": [asdict(check) for check in self.checks],
        }

    def _wrong(
        self,
        outcome: Outcome,
        name: str,
        text: str,
        cause: str,
        remedy: str,
        facts: dict[str, Any],
    ) -> None:
        self._add(
            Check(name=name, outcome=outcome, text=text, cause=cause, remedy=remedy, facts=facts)
        )

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        if self._tell is not None:
            self._tell(check)
