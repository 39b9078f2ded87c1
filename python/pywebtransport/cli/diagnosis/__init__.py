"""What ``pywebtransport doctor`` finds out, without a command line around it."""

from __future__ import annotations

from pywebtransport.cli.diagnosis.report import Check, Outcome, Report

__all__ = ["Check", "Outcome", "Report"]
