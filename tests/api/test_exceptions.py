"""Messages, codes, attributes and categories of everything the library raises."""

from __future__ import annotations

import builtins
import copy
import pickle
from typing import Any

import pytest

import pywebtransport.exceptions
from pywebtransport import exceptions
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    AuthenticationError,
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    DatagramError,
    FlowControlError,
    HandshakeError,
    MiddlewareRejected,
    ProtocolError,
    SerializationError,
    ServerError,
    SessionClosedError,
    SessionError,
    StreamError,
    TimeoutError,
    WebTransportError,
    certificate_not_found,
    datagram_too_large,
    get_error_category,
    invalid_config,
    is_fatal_error,
    is_retriable_error,
    session_not_ready,
    stream_closed,
)
from pywebtransport.types import SessionState, StreamState

CLASSES: list[tuple[type[WebTransportError], str, ErrorCodes, dict[str, Any]]] = [
    (
        AuthenticationError,
        "authentication",
        ErrorCodes.APP_AUTHENTICATION_FAILED,
        {"auth_method": "token"},
    ),
    (
        CertificateError,
        "certificate",
        ErrorCodes.APP_AUTHENTICATION_FAILED,
        {"certificate_path": "a.crt", "certificate_error": "expired"},
    ),
    (ClientError, "client", ErrorCodes.APP_INVALID_REQUEST, {"target_url": "https://h/"}),
    (
        ConfigurationError,
        "configuration",
        ErrorCodes.APP_INVALID_REQUEST,
        {"config_key": "k", "config_value": [1]},
    ),
    (
        ConnectionError,
        "connection",
        ErrorCodes.CONNECTION_REFUSED,
        {"remote_address": ("h", 1)},
    ),
    (DatagramError, "datagram", ErrorCodes.INTERNAL_ERROR, {"datagram_size": 2, "max_size": 1}),
    (
        FlowControlError,
        "flow_control",
        ErrorCodes.FLOW_CONTROL_ERROR,
        {"stream_id": 4, "limit_exceeded": 1, "current_value": 2},
    ),
    (HandshakeError, "handshake", ErrorCodes.INTERNAL_ERROR, {"handshake_stage": "tls"}),
    (ProtocolError, "protocol", ErrorCodes.PROTOCOL_VIOLATION, {"frame_type": 4}),
    (SerializationError, "serialization", ErrorCodes.INTERNAL_ERROR, {"original_exception": None}),
    (
        ServerError,
        "server",
        ErrorCodes.APP_SERVICE_UNAVAILABLE,
        {"bind_address": ("h", 1)},
    ),
    (
        SessionError,
        "session",
        ErrorCodes.INTERNAL_ERROR,
        {"session_id": "s", "session_state": SessionState.CONNECTING},
    ),
    (
        StreamError,
        "stream",
        ErrorCodes.STREAM_STATE_ERROR,
        {"stream_id": None, "stream_state": StreamState.OPEN},
    ),
    (
        TimeoutError,
        "timeout",
        ErrorCodes.APP_CONNECTION_TIMEOUT,
        {"timeout_duration": 1.5, "operation": "read"},
    ),
    (WebTransportError, "unknown", ErrorCodes.INTERNAL_ERROR, {}),
]


@pytest.mark.parametrize(("cls", "category", "code", "extra"), CLASSES)
def test_attributes_texts_and_dictionary(
    cls: type[WebTransportError], category: str, code: ErrorCodes, extra: dict[str, Any]
) -> None:
    error = cls("went wrong", details={"d": 1}, **extra)
    assert (error.message, error.error_code, error.details) == ("went wrong", code, {"d": 1})
    assert {name: getattr(error, name) for name in extra} == extra
    assert list(error.to_dict().items()) == [
        ("type", cls.__name__),
        ("message", "went wrong"),
        ("error_code", code),
        ("details", {"d": 1}),
        *extra.items(),
    ]
    assert str(error) == f"[{code:#x}] went wrong"
    shown = "".join(f", {name}={value!r}" for name, value in extra.items())
    assert repr(error) == f"{cls.__name__}(message='went wrong', error_code={code:#x}{shown})"
    assert get_error_category(exception=error) == error.category == category


@pytest.mark.parametrize(("cls", "category", "code", "extra"), CLASSES)
def test_survives_pickling_and_copying(
    cls: type[WebTransportError], category: str, code: ErrorCodes, extra: dict[str, Any]
) -> None:
    error = cls("went wrong", error_code=7, **extra)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert twin.to_dict() == error.to_dict()


def test_code_zero_is_a_code() -> None:
    assert StreamError("m", error_code=0).error_code == 0


def test_stream_error_shows_its_stream() -> None:
    assert str(StreamError("m", stream_id=0)) == "[0x5] m (stream_id=0)"
    assert str(StreamError("m")) == "[0x5] m"


def test_serialization_error_gives_its_cause_as_text() -> None:
    error = SerializationError("m", original_exception=ValueError("odd"))
    assert error.to_dict()["original_exception"] == "odd"


def test_session_closed_error_is_a_session_error() -> None:
    error = SessionClosedError(session_id="s", error_code=3)
    assert isinstance(error, SessionError)
    assert (error.session_id, error.error_code) == ("s", 3)
    assert error.session_state is SessionState.CLOSED
    assert SessionClosedError().error_code == ErrorCodes.NO_ERROR


def test_names_of_builtins_are_subclasses_and_not_for_star_import() -> None:
    assert issubclass(ConnectionError, builtins.ConnectionError)
    assert issubclass(TimeoutError, builtins.TimeoutError)
    for module in (pywebtransport, pywebtransport.exceptions):
        assert not {"ConnectionError", "TimeoutError"} & set(module.__all__)


def test_from_cause_takes_over_code_and_details() -> None:
    cause = StreamError("gone", error_code=9, details={"a": 1})
    error = ClientError.from_cause("no", cause=cause, details={"b": 2}, target_url="u")
    assert error.__cause__ is cause
    assert (error.error_code, error.details, error.target_url) == (9, {"a": 1, "b": 2}, "u")
    foreign = ClientError.from_cause("no", cause=OSError())
    assert (foreign.error_code, foreign.details) == (ErrorCodes.APP_INVALID_REQUEST, {})


def test_helpers_name_what_is_wrong() -> None:
    missing = certificate_not_found(path="/x.crt")
    assert (missing.certificate_path, missing.certificate_error) == ("/x.crt", "file_not_found")
    assert "/x.crt" in str(missing)
    large = datagram_too_large(size=5, max_size=3)
    assert (large.datagram_size, large.max_size) == (5, 3)
    bad = invalid_config(key="k", value=3, reason="must be odd")
    assert (bad.config_key, bad.config_value) == ("k", 3)
    assert str(bad) == "[0x1004] Invalid configuration for 'k': must be odd, got 3"
    early = session_not_ready(session_id="s", current_state=SessionState.CLOSING)
    assert (early.session_id, early.session_state) == ("s", SessionState.CLOSING)
    ended = stream_closed(stream_id=8, reason="by peer")
    assert (ended.stream_id, ended.error_code) == (8, ErrorCodes.STREAM_STATE_ERROR)
    assert "by peer" in str(ended)


@pytest.mark.parametrize(
    ("code", "fatal", "retriable"),
    [
        (ErrorCodes.PROTOCOL_VIOLATION, True, False),
        (ErrorCodes.FRAME_ENCODING_ERROR, True, False),
        (ErrorCodes.CRYPTO_BUFFER_EXCEEDED, True, False),
        (ErrorCodes.APP_AUTHENTICATION_FAILED, True, False),
        (ErrorCodes.APP_PERMISSION_DENIED, True, False),
        (ErrorCodes.APP_CONNECTION_TIMEOUT, False, True),
        (ErrorCodes.APP_SERVICE_UNAVAILABLE, False, True),
        (ErrorCodes.FLOW_CONTROL_ERROR, False, True),
        (ErrorCodes.INTERNAL_ERROR, False, False),
    ],
)
def test_fatal_and_retriable(code: ErrorCodes, fatal: bool, retriable: bool) -> None:
    error = WebTransportError("m", error_code=code)
    assert is_fatal_error(exception=error) is error.is_fatal is fatal
    assert is_retriable_error(exception=error) is error.is_retriable is retriable


def test_foreign_exceptions_are_fatal_and_unknown() -> None:
    assert is_fatal_error(exception=ValueError())
    assert not is_retriable_error(exception=ValueError())
    assert get_error_category(exception=ValueError()) == "unknown"


def test_middleware_rejected_carries_the_answer() -> None:
    rejected = MiddlewareRejected(status_code=429, headers={"retry-after": "1"})
    assert (rejected.status_code, rejected.headers) == (429, {"retry-after": "1"})
    assert (MiddlewareRejected().status_code, MiddlewareRejected().headers) == (403, {})


def test_everything_public_is_there() -> None:
    assert all(hasattr(exceptions, name) for name in exceptions.__all__)
