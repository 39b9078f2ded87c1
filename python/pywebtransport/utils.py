"""Small helpers: certificates for tests and development, time, text, logging."""

from __future__ import annotations

import logging
import sys
import time
from binascii import b2a_base64
from os import urandom
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pywebtransport._certificates import (
    certificate_hash,
    generate_self_signed_cert,
    inspect_certificate,
)
from pywebtransport.constants import DEFAULT_LOG_FORMAT
from pywebtransport.types import Buffer

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration

__all__ = [
    "Timer",
    "certificate_hash",
    "create_quic_configuration",
    "ensure_bytes",
    "format_duration",
    "generate_self_signed_cert",
    "generate_session_id",
    "get_logger",
    "get_timestamp",
    "init_tracing",
    "inspect_certificate",
]

LIBRARY_LOGGER = "pywebtransport"
TRACING_HANDLER = "pywebtransport.tracing"

URL_SAFE = bytes.maketrans(b"+/", b"-_")

logger = logging.getLogger(__name__)


class Timer:
    """Measures how long something takes; as a context manager, it logs that at its end."""

    def __init__(self, *, name: str = "timer") -> None:
        self.name = name
        self.start_time: float | None = None
        self.end_time: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end, or to now while it runs; 0.0 before it starts."""
        if self.start_time is None:
            return 0.0
        end = time.perf_counter() if self.end_time is None else self.end_time
        return end - self.start_time

    def start(self) -> None:
        """Start, or start again."""
        self.start_time, self.end_time = time.perf_counter(), None

    def stop(self) -> float:
        """Stop; the seconds since the start."""
        if self.start_time is None:
            raise RuntimeError(f"timer {self.name!r} has not been started; call start() first")
        self.end_time = time.perf_counter()
        return self.elapsed

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        logger.debug("%s took %s", self.name, format_duration(seconds=self.stop()))


def create_quic_configuration(
    *,
    is_client: bool,
    alpn_protocols: list[str],
    congestion_control_algorithm: str,
    max_datagram_size: int,
) -> QuicConfiguration:
    """aioquic's configuration for a connection that carries WebTransport."""
    from aioquic.quic.configuration import QuicConfiguration

    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=alpn_protocols,
        congestion_control_algorithm=congestion_control_algorithm,
        max_datagram_frame_size=max_datagram_size,
    )


def ensure_bytes(*, data: Buffer | str, encoding: str = "utf-8") -> bytes:
    """Text encoded, any buffer copied; bytes as they are."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode(encoding)
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"expected str, bytes, bytearray or memoryview, got {type(data).__name__}")


def format_duration(*, seconds: float) -> str:
    """``12.0ms``, ``5.0s``, ``1m5.0s`` or ``1h1m5.0s``."""
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h{minutes}m{rest:.1f}s"
    return f"{minutes}m{rest:.1f}s" if minutes else f"{rest:.1f}s"


def generate_session_id() -> str:
    """22 characters that nobody can guess."""
    text = b2a_base64(urandom(16), newline=False)[:22]
    return text.translate(URL_SAFE).decode()


def get_logger(*, name: str) -> logging.Logger:
    """The logger of this name."""
    return logging.getLogger(name)


def get_timestamp() -> float:
    """Seconds since the epoch."""
    return time.time()


def init_tracing() -> None:
    """Write everything the library logs to standard error; calling it again changes nothing."""
    library = logging.getLogger(LIBRARY_LOGGER)
    if any(handler.name == TRACING_HANDLER for handler in library.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.name = TRACING_HANDLER
    handler.setFormatter(logging.Formatter(DEFAULT_LOG_FORMAT))
    library.addHandler(handler)
    library.setLevel(logging.DEBUG)
