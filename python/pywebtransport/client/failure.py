"""What ``connect()`` raises: a ClientError that is of its own kind as well."""

from __future__ import annotations

import builtins

from pywebtransport._words import redacted
from pywebtransport.exceptions import (
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectCertificateError,
    ConnectConfigurationError,
    ConnectFailed,
    ConnectHandshakeError,
    ConnectionError,
    ConnectTimeoutError,
    HandshakeError,
    WebTransportError,
)
from pywebtransport.types import URL

__all__ = ["cause_of", "connect_error"]

KINDS: tuple[tuple[type[BaseException], type[ClientError]], ...] = (
    (ConfigurationError, ConnectConfigurationError),
    (CertificateError, ConnectCertificateError),
    (HandshakeError, ConnectHandshakeError),
    (builtins.TimeoutError, ConnectTimeoutError),
    (ConnectionError, ConnectFailed),
)


UDP_HINT = "; is the port right, and does every firewall on the way let UDP through?"


def connect_error(error: Exception, url: URL, *, seconds: float, is_silent: bool) -> ClientError:
    """The error to raise for what went wrong.

    Args:
        error: What was raised on the way.
        url: Where to.
        seconds: The time there was.
        is_silent: The server has not said a word.
    """
    # A connection wraps what its engine says.
    cause = error.__cause__ if type(error) is ConnectionError else None
    seen = cause if isinstance(cause, WebTransportError) else error
    kind = next((failure for known, failure in KINDS if isinstance(seen, known)), ClientError)
    text = error.message if isinstance(error, WebTransportError) else str(error)
    if kind is ClientError:
        told = isinstance(error, ClientError)
        text = f"{'' if told else 'cannot connect to '}{redacted(url)}: {text or repr(error)}"
    elif kind is ConnectTimeoutError:
        text = text or f"no answer from {redacted(url)} within {seconds:g} s"
        text += UDP_HINT if is_silent else ""
    failure = kind(text)
    for source in (error, seen):
        for name in ("error_code", "details", "status_code", "headers", *kind._attributes):
            if (value := getattr(source, name, None)) is not None:
                setattr(failure, name, value)
    failure.target_url = redacted(url)
    return failure


def cause_of(error: Exception) -> BaseException:
    """What the error that tells of ``error`` is raised from.

    That error is raised without a variable: its traceback would hold the variable, and with it
    everything on the way, until the collector comes.
    """
    return error.__cause__ or error
