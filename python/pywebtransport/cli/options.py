"""What a command line of ``serve`` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """What was asked for; None: as the application says, else the default of ServerConfig."""

    target: str
    host: str | None
    port: int | None
    certfile: str | None
    keyfile: str | None
    dev: bool
    workers: int
    engine: str | None
    graceful_timeout: float | None
    log_level: str | None
    log_json: bool
    metrics_port: int | None
    factory: bool
    app_dir: str
    is_first: bool = True
    """Not started again by ``--reload``."""

    def settings(self) -> dict[str, Any]:
        """The fields of ServerConfig that were given."""
        fields = {
            "bind_host": self.host,
            "bind_port": self.port,
            "certfile": self.certfile,
            "keyfile": self.keyfile,
            "engine": self.engine,
            "graceful_timeout": self.graceful_timeout,
        }
        return {name: value for name, value in fields.items() if value is not None}
