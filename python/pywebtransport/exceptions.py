"""Everything the library raises.

WebTransportError
├─ AuthenticationError   CertificateError     ClientError    ConfigurationError
├─ ConnectionError       DatagramError        FlowControlError   HandshakeError
├─ InvalidStateError     ProtocolError        RequestError   SerializationError
├─ ServerError           StreamError          TimeoutError
└─ SessionError ── SessionClosedError

``ConnectionError`` and ``TimeoutError`` are also the built-in classes of these names, and no part
of ``import *``, which would hide those. What goes on
in a session ends in one of three ways, whatever it is that ends::

    what ended        the peer reset it      the session was closed     the connection was lost
    StreamError       StreamResetError       StreamSessionClosedError   StreamLostError
    DatagramError                            DatagramSessionClosedError DatagramLostError
    SessionError                             SessionClosedError         SessionLostError
    in common                                SessionClosedError         ConnectionLostError

A session that ended without a close, because the peer reset it or broke a rule, has errors in the
third column that are a SessionResetError besides.

What ``WebTransportClient.connect`` raises is a ClientError and of its own kind besides: see
ConnectFailed and those below it. Each
exception carries the code that goes (or came) over the wire, a dictionary of details, and the
ids that its class names. :class:`MiddlewareRejected` stands apart: a server's middleware or
handler raises it to choose the answer to a request.
"""

from __future__ import annotations

import builtins
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pywebtransport.constants import ErrorCodes
from pywebtransport.types import Headers, SessionId, SessionState, StreamState

__all__ = [
    "AuthenticationError",
    "CertificateError",
    "ClientError",
    "ConfigurationError",
    "ConnectCertificateError",
    "ConnectConfigurationError",
    "ConnectFailed",
    "ConnectHandshakeError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "DatagramError",
    "DatagramLostError",
    "DatagramSessionClosedError",
    "DatagramSessionResetError",
    "FlowControlError",
    "HandshakeError",
    "InvalidStateError",
    "MiddlewareRejected",
    "ProtocolError",
    "RequestError",
    "SerializationError",
    "ServerError",
    "SessionClosedError",
    "SessionError",
    "SessionLostError",
    "SessionResetError",
    "StreamError",
    "StreamLostError",
    "StreamResetError",
    "StreamSessionClosedError",
    "StreamSessionResetError",
    "WebTransportError",
    "certificate_not_found",
    "datagram_too_large",
    "get_error_category",
    "invalid_config",
    "is_fatal_error",
    "is_retriable_error",
    "no_datagrams",
    "session_not_ready",
    "stream_closed",
    "wrong_loop",
    "wrong_thread",
]

FATAL_CODES = frozenset(
    {
        ErrorCodes.PROTOCOL_VIOLATION,
        ErrorCodes.FRAME_ENCODING_ERROR,
        ErrorCodes.CRYPTO_BUFFER_EXCEEDED,
        ErrorCodes.APP_AUTHENTICATION_FAILED,
        ErrorCodes.APP_PERMISSION_DENIED,
    }
)
RETRIABLE_CODES = frozenset(
    {
        ErrorCodes.APP_CONNECTION_TIMEOUT,
        ErrorCodes.APP_SERVICE_UNAVAILABLE,
        ErrorCodes.FLOW_CONTROL_ERROR,
    }
)


class WebTransportError(Exception):
    """The root of the library's errors; without ``error_code`` each class has its own default."""

    _category: ClassVar[str] = "unknown"
    _default_code: ClassVar[int] = ErrorCodes.INTERNAL_ERROR
    _attributes: ClassVar[tuple[str, ...]] = ()
    """What a class adds to message, code and details, in the order of its constructor."""

    def __init_subclass__(cls) -> None:
        if len(cls.__bases__) > 1 and "_attributes" not in vars(cls):
            lists = (getattr(base, "_attributes", ()) for base in cls.__bases__)
            cls._attributes = tuple(dict.fromkeys(name for names in lists for name in names))

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = self._default_code if error_code is None else error_code
        self.details: dict[str, Any] = {} if details is None else details

    @classmethod
    def from_cause(
        cls,
        message: str,
        *,
        cause: BaseException,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """An error with ``cause`` as its ``__cause__``, whose code and details it takes over."""
        if isinstance(cause, WebTransportError):
            error_code = cause.error_code if error_code is None else error_code
            details = {**cause.details, **(details or {})}
        error = cls(message, error_code=error_code, details=details, **kwargs)
        error.__cause__ = cause
        return error

    @property
    def category(self) -> str:
        """What kind of error this is, as :func:`get_error_category` gives it."""
        return self._category

    @property
    def is_fatal(self) -> bool:
        """Whether the connection cannot go on after it."""
        return self.error_code in FATAL_CODES

    @property
    def is_retriable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.error_code in RETRIABLE_CODES

    def to_dict(self) -> dict[str, Any]:
        """Class name, message, code, details, then what the class adds."""
        values = {
            "type": type(self).__name__,
            "message": self.message,
            "error_code": self.error_code,
            "details": self.details,
        }
        return values | {name: getattr(self, name) for name in self._attributes}

    def __repr__(self) -> str:
        extra = "".join(f", {name}={getattr(self, name)!r}" for name in self._attributes)
        return f"{type(self).__name__}(message={self.message!r}, error_code={self._hex}{extra})"

    def __str__(self) -> str:
        return f"[{self._hex}] {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only attributes survive pickling and copying as instance state.
        return type(self), (self.message,), self.__dict__

    @property
    def _hex(self) -> str:
        return f"{self.error_code:#x}"


class AuthenticationError(WebTransportError):
    """A peer is not who it has to be."""

    _category = "authentication"
    _default_code = ErrorCodes.APP_AUTHENTICATION_FAILED
    _attributes: ClassVar[tuple[str, ...]] = ("auth_method",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        auth_method: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.auth_method = auth_method


class CertificateError(WebTransportError):
    """A certificate or key is missing, unusable, or not trusted."""

    _category = "certificate"
    _default_code = ErrorCodes.APP_AUTHENTICATION_FAILED
    _attributes: ClassVar[tuple[str, ...]] = ("certificate_path", "certificate_error")

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        certificate_path: str | None = None,
        certificate_error: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.certificate_path = certificate_path
        self.certificate_error = certificate_error


class ClientError(WebTransportError):
    """A client cannot do what was asked, or the server refused the session."""

    _category = "client"
    _default_code = ErrorCodes.APP_INVALID_REQUEST
    _attributes: ClassVar[tuple[str, ...]] = ("target_url",)

    status_code: int | None = None
    """The server's answer when it was not 2xx; None: it was none."""
    headers: Headers = MappingProxyType({})  # type: ignore[assignment]
    """The fields of that answer."""

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        target_url: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.target_url = target_url


class ConfigurationError(WebTransportError):
    """A setting or an argument has a value that cannot work."""

    _category = "configuration"
    _default_code = ErrorCodes.APP_INVALID_REQUEST
    _attributes: ClassVar[tuple[str, ...]] = ("config_key", "config_value")

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        config_key: str | None = None,
        config_value: Any | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.config_key = config_key
        self.config_value = config_value


class ConnectionError(WebTransportError, builtins.ConnectionError):
    """A QUIC connection could not be made, or is gone."""

    _category = "connection"
    _default_code = ErrorCodes.CONNECTION_REFUSED
    _attributes: ClassVar[tuple[str, ...]] = ("remote_address",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        remote_address: tuple[str, int] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.remote_address = remote_address


class DatagramError(WebTransportError):
    """A datagram cannot be sent or received."""

    _category = "datagram"
    _attributes: ClassVar[tuple[str, ...]] = ("datagram_size", "max_size")

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        datagram_size: int | None = None,
        max_size: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.datagram_size = datagram_size
        self.max_size = max_size


class FlowControlError(WebTransportError):
    """A peer sent, or we would send, more than a limit allows."""

    _category = "flow_control"
    _default_code = ErrorCodes.FLOW_CONTROL_ERROR
    _attributes: ClassVar[tuple[str, ...]] = ("stream_id", "limit_exceeded", "current_value")

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        stream_id: int | None = None,
        limit_exceeded: int | None = None,
        current_value: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.stream_id = stream_id
        self.limit_exceeded = limit_exceeded
        self.current_value = current_value


class HandshakeError(WebTransportError):
    """A connection or session ended while it was being set up."""

    _category = "handshake"
    _attributes: ClassVar[tuple[str, ...]] = ("handshake_stage",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        handshake_stage: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.handshake_stage = handshake_stage


class InvalidStateError(WebTransportError, RuntimeError):
    """A call that cannot be made here and now, and that has changed nothing."""

    _category = "state"
    _default_code = ErrorCodes.APP_INVALID_REQUEST


class ProtocolError(WebTransportError):
    """A peer broke the rules of HTTP/3 or WebTransport."""

    _category = "protocol"
    _default_code = ErrorCodes.PROTOCOL_VIOLATION
    _attributes: ClassVar[tuple[str, ...]] = ("frame_type",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        frame_type: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.frame_type = frame_type


class RequestError(WebTransportError):
    """An HTTP request is over before its response is complete; ``error_code`` is HTTP/3's."""

    _category = "request"
    _default_code = ErrorCodes.H3_REQUEST_CANCELLED


class SerializationError(WebTransportError):
    """An object cannot become bytes, or bytes cannot become the object."""

    _category = "serialization"
    _attributes: ClassVar[tuple[str, ...]] = ("original_exception",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
        original_exception: Exception | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.original_exception = original_exception

    def to_dict(self) -> dict[str, Any]:
        """As of the base class; the original exception is given by its text."""
        original = self.original_exception
        return super().to_dict() | {
            "original_exception": None if original is None else str(original)
        }


class ServerError(WebTransportError):
    """A server cannot start, or cannot do what was asked."""

    _category = "server"
    _default_code = ErrorCodes.APP_SERVICE_UNAVAILABLE
    _attributes: ClassVar[tuple[str, ...]] = ("bind_address",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        bind_address: tuple[str, int] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.bind_address = bind_address


class SessionError(WebTransportError):
    """A session is not in the state that a call needs."""

    _category = "session"
    _attributes: ClassVar[tuple[str, ...]] = ("session_id", "session_state")

    def __init__(
        self,
        message: str,
        *,
        session_id: str | None = None,
        error_code: int | None = None,
        session_state: SessionState | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.session_id = session_id
        self.session_state = session_state


class SessionClosedError(SessionError):
    """A session has ended; ``error_code`` is the application's code it was closed with."""

    _default_code = ErrorCodes.NO_ERROR

    close_reason: str = ""
    """The words it was closed with."""
    closed_by: str = ""
    """``"local"``, ``"remote"`` or ``"transport"``."""

    @property
    def close_code(self) -> int:
        """The same as ``error_code``."""
        return self.error_code

    def __init__(
        self,
        message: str = "wt_session close",
        *,
        session_id: SessionId | None = None,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            message,
            session_id=session_id,
            error_code=error_code,
            session_state=SessionState.CLOSED,
            details=details,
        )


class StreamError(WebTransportError):
    """A stream was reset, has ended, or cannot be opened."""

    _category = "stream"
    _default_code = ErrorCodes.STREAM_STATE_ERROR
    _attributes: ClassVar[tuple[str, ...]] = ("stream_id", "stream_state")

    def __init__(
        self,
        message: str,
        *,
        stream_id: int | None = None,
        error_code: int | None = None,
        stream_state: StreamState | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.stream_id = stream_id
        self.stream_state = stream_state

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.stream_id is None else f"{text} (stream_id={self.stream_id})"


class TimeoutError(WebTransportError, builtins.TimeoutError):
    """Something did not happen in its time."""

    _category = "timeout"
    _default_code = ErrorCodes.APP_CONNECTION_TIMEOUT
    _attributes: ClassVar[tuple[str, ...]] = ("timeout_duration", "operation")

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        timeout_duration: float | None = None,
        operation: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, error_code=error_code, details=details)
        self.timeout_duration = timeout_duration
        self.operation = operation


class ConnectionLostError(ConnectionError):
    """The connection below has ended without a word, or with an error."""


class SessionLostError(SessionClosedError, ConnectionLostError):
    """A session has ended because its connection was lost."""


class SessionResetError(SessionClosedError):
    """A session has ended without a close: the peer reset it (``closed_by`` is ``"remote"``), or
    broke a rule of the protocol (``"local"``); ``error_code`` is HTTP/3's (RFC 9114 §8.1)."""

    @property
    def close_code(self) -> int:
        """0: there is none of the application's."""
        return 0


class StreamResetError(StreamError):
    """The peer reset the stream, or asked this side to stop; ``error_code`` is the peer's.

    It is 5 where the peer's HTTP/3 code carries none of an application's (webtrans-http3-16 §4.4);
    the text has that code then, in hexadecimal.
    """


class StreamSessionClosedError(StreamError, SessionClosedError):
    """A stream has ended because its session was closed, with a code or before its end."""


class StreamSessionResetError(StreamSessionClosedError, SessionResetError):
    """A stream has ended because its session was reset."""


class StreamLostError(StreamError, ConnectionLostError):
    """A stream has ended because its connection was lost."""


class DatagramSessionClosedError(DatagramError, SessionClosedError):
    """No more datagrams: the session was closed."""


class DatagramSessionResetError(DatagramSessionClosedError, SessionResetError):
    """No more datagrams: the session was reset."""


class DatagramLostError(DatagramError, ConnectionLostError):
    """No more datagrams: the connection was lost."""


class ConnectFailed(ClientError, ConnectionError):
    """``connect()`` came to nothing: the server was not reached, or ended it."""

    _default_code = ErrorCodes.CONNECTION_REFUSED


class ConnectTimeoutError(ConnectFailed, TimeoutError):
    """``connect()`` got no answer in time."""

    _default_code = ErrorCodes.APP_CONNECTION_TIMEOUT


class ConnectCertificateError(ConnectFailed, CertificateError):
    """``connect()`` does not trust the server, or the server does not trust this client."""


class ConnectHandshakeError(ConnectFailed, HandshakeError):
    """``connect()`` found a server that does not speak this protocol."""


class ConnectConfigurationError(ClientError, ConfigurationError):
    """``connect()`` was called with an argument or a setting that cannot work."""


class MiddlewareRejected(Exception):
    """Raised by a middleware or a handler: answer the request with this status.

    Raises:
        ValueError: ``status_code`` is not in 300..599.
    """

    def __init__(self, *, status_code: int = 403, headers: Headers | None = None) -> None:
        check_status(status_code)
        super().__init__(f"the request was rejected with status {status_code}")
        self.status_code = status_code
        self.headers: Headers = {} if headers is None else headers


def certificate_not_found(*, path: str) -> CertificateError:
    """A certificate or key file is not there."""
    return CertificateError(
        f"Certificate file not found: {path}",
        certificate_path=path,
        certificate_error="file_not_found",
    )


def check_status(status_code: int) -> None:
    """ValueError: a request cannot be rejected with this status."""
    if not isinstance(status_code, int) or not 300 <= status_code <= 599:
        raise ValueError(f"status_code must be an integer in 300..599, it is {status_code!r}")


def datagram_too_large(*, size: int, max_size: int) -> DatagramError:
    """A datagram does not fit into what may be sent now."""
    return DatagramError(
        f"Datagram size {size} exceeds maximum {max_size}",
        datagram_size=size,
        max_size=max_size,
    )


def no_datagrams(size: int | None = None) -> DatagramError:
    """The peer takes no datagrams at all."""
    return DatagramError(
        "the peer takes no datagrams: send the data on a stream", datagram_size=size, max_size=0
    )


def get_error_category(*, exception: Exception) -> str:
    """One word for the kind of ``exception``; ``unknown`` when it is not one of the library's."""
    return exception.category if isinstance(exception, WebTransportError) else "unknown"


def invalid_config(*, key: str, value: Any, reason: str) -> ConfigurationError:
    """A setting has a value that cannot work; ``reason`` says what would."""
    return ConfigurationError(
        f"Invalid configuration for '{key}': {reason}, got {value!r}",
        config_key=key,
        config_value=value,
    )


def is_fatal_error(*, exception: Exception) -> bool:
    """Whether the connection cannot go on; every exception that is not ours is fatal."""
    return exception.is_fatal if isinstance(exception, WebTransportError) else True


def is_retriable_error(*, exception: Exception) -> bool:
    """Whether the same call may succeed later."""
    return exception.is_retriable if isinstance(exception, WebTransportError) else False


def session_not_ready(*, session_id: str, current_state: SessionState) -> SessionError:
    """A session is not established, or not any more."""
    return SessionError(
        f"Session {session_id} not ready, current state: {current_state}",
        session_id=session_id,
        session_state=current_state,
    )


def stream_closed(*, stream_id: int, reason: str = "Stream was closed") -> StreamError:
    """A stream has ended and cannot be used."""
    return StreamError(
        f"Stream {stream_id} closed: {reason}",
        stream_id=stream_id,
        error_code=ErrorCodes.STREAM_STATE_ERROR,
    )


def wrong_thread(owner: str, caller: str) -> InvalidStateError:
    """A call from another thread than the one that runs the object's event loop."""
    return InvalidStateError(
        f"this object belongs to the event loop of thread {owner!r} and was called from thread "
        f"{caller!r}: hand the call over with asyncio.run_coroutine_threadsafe() or "
        "loop.call_soon_threadsafe()",
        details={"owner": owner, "caller": caller},
    )


def wrong_loop(is_closed: bool) -> InvalidStateError:
    """A call in another event loop than the object's."""
    text = "its loop is closed"
    if not is_closed:
        text = (
            "it was made in a different loop; hand the call over with"
            " asyncio.run_coroutine_threadsafe()"
        )
    return InvalidStateError(f"this object cannot be used here: {text}")
