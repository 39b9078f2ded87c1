"""qlog of the aioquic engine: what happens on a connection, written as it happens.

aioquic keeps the events of a connection in memory until it ends. Here each is a record of a JSON
text sequence (RFC 7464) in the connection's file; the schema is qlog 0.3, the latest qvis reads.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from aioquic.quic.logger import QLOG_VERSION, QuicLogger, QuicLoggerTrace

from pywebtransport._engine.rules import qlog_failed

__all__ = ["QlogDirectory", "Trace"]

SEPARATOR = "\x1e"
NAMES = {"cwnd": "congestion_window"}
"""The schema's names for what aioquic names otherwise."""


class QlogDirectory(QuicLogger):
    """aioquic's logger, with a file for each connection."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def start_trace(self, is_client: bool, odcid: bytes) -> Trace | None:  # type: ignore[override]
        """None where there can be no file: aioquic takes it for a connection without a log."""
        side = "client" if is_client else "server"
        path = os.path.join(self.path, f"{odcid.hex()}_{side}.sqlog")
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return None  # no honest client chooses an id twice
        except OSError as error:
            self.failed(path, error)
            return None
        return Trace(self, path, file, is_client=is_client, odcid=odcid)

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        assert isinstance(trace, Trace), "it came from start_trace"
        trace.close()

    def failed(self, path: str, error: OSError) -> None:
        qlog_failed(self.path, f"{path}: {error.strerror}")


class Trace(QuicLoggerTrace):
    """The file of one connection; one that cannot be written ends, and nothing else does."""

    def __init__(
        self, directory: QlogDirectory, path: str, file: int, *, is_client: bool, odcid: bytes
    ) -> None:
        super().__init__(is_client=is_client, odcid=odcid)
        self._directory = directory
        self._path = path
        self._file: int | None = file
        self._started = time.monotonic()
        self._held: list[dict[str, Any]] = []
        side = "client" if is_client else "server"
        self._write(
            {
                "qlog_version": QLOG_VERSION,
                "qlog_format": "JSON-SEQ",
                "title": f"pywebtransport {side} {odcid.hex()}",
                "trace": {
                    "vantage_point": {"name": "pywebtransport aioquic", "type": side},
                    "common_fields": {
                        "ODCID": odcid.hex(),
                        "reference_time": round(time.time() * 1000, 3),
                        "time_format": "relative",
                    },
                },
            }
        )

    def log_event(self, *, category: str, event: str, data: dict[str, Any]) -> None:
        if event == "spin_bit_updated":
            return  # once a packet, and for observers between the ends (RFC 9000 §17.4)
        if event == "packet_lost":
            header = {"packet_type": data["type"], "packet_number": data["packet_number"]}
            data = {"header": header}
        elif event == "metrics_updated":
            data = {NAMES.get(name, name): value for name, value in data.items()}
            data.pop("cubic-wmax", None)  # no part of the schema
        elapsed = time.monotonic() - self._started
        record = {"time": round(elapsed * 1000, 3), "name": f"{category}:{event}", "data": data}
        # aioquic tells of a received packet first and finds its frames then.
        if self._held or event == "packet_received":
            self._held.append(record)
        else:
            self._write(record)

    def release(self) -> None:
        """What arrived together has been looked at: its packets have their frames."""
        held, self._held = self._held, []
        for record in held:
            self._write(record)

    # Tokens let whoever reads them end the connection, or pass for the client.

    def encode_new_connection_id_frame(self, *fields: Any, **named: Any) -> dict[str, Any]:
        frame = super().encode_new_connection_id_frame(*fields, **named)
        del frame["reset_token"]
        return frame

    def encode_new_token_frame(self, token: bytes) -> dict[str, Any]:
        return {"frame_type": "new_token", "length": len(token)}

    def encode_transport_parameters(self, owner: str, parameters: Any) -> dict[str, Any]:
        data = super().encode_transport_parameters(owner, parameters)
        data.pop("stateless_reset_token", None)
        return data

    def close(self) -> None:
        self.release()
        self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        # A connection that is let go before its end tells nobody.
        self.close()

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        text = f"{SEPARATOR}{json.dumps(record, separators=(',', ':'))}\n".encode()
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError as error:
            self._directory.failed(self._path, error)
            self._close_file()
