"""Configuration objects: defaults, validation field by field, copies."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._engine.driver import core_config
from pywebtransport._native import CoreConnection, frame_encode, settings_encode
from pywebtransport.config import BaseConfig, ClientConfig, ProxyConfig, ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import CertificateError, ConfigurationError

CONFIGS = [ClientConfig, ServerConfig]
STOP_SENDING = 3
"""Kind of an item that the core drains."""
TIMES = [
    "close_timeout",
    "connection_cleanup_interval",
    "connection_idle_check_interval",
    "connection_idle_timeout",
    "connection_keepalive_timeout",
    "pending_event_ttl",
    "stream_cleanup_interval",
    "stream_creation_timeout",
]
COUNTS = [
    "flow_control_window_size",
    "max_connections",
    "max_field_section_size",
    "max_incoming_datagrams",
    "max_incoming_streams",
    "max_outgoing_datagrams",
    "max_pending_events_per_session",
    "max_total_pending_events",
    "quic_max_concurrent_bidi_streams",
    "quic_max_concurrent_uni_streams",
    "quic_receive_window",
    "quic_send_window",
    "quic_stream_receive_window",
    "rpc_concurrency_limit",
    "stream_buffer_size",
    "stream_flow_control_increment_bidi",
    "stream_flow_control_increment_uni",
]


def refused(config: type[BaseConfig], **values: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        config(**values)
    return caught.value


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("value", [0, -1.0, "5", float("nan"), float("inf"), True, None])
@pytest.mark.parametrize("name", TIMES)
def test_times_are_positive_numbers(config: type[BaseConfig], name: str, value: Any) -> None:
    error = refused(config, **{name: value})
    assert error.config_key == name
    assert name in str(error)
    assert repr(value) in str(error)


@pytest.mark.parametrize(
    "name", ["connect_timeout", "max_retry_delay", "retry_delay", "retry_backoff"]
)
def test_times_of_clients(name: str) -> None:
    assert refused(ClientConfig, **{name: 0}).config_key == name


def test_times_of_servers() -> None:
    error = refused(ServerConfig, session_cleanup_interval=0)
    assert error.config_key == "session_cleanup_interval"


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", ["read_timeout", "write_timeout"])
def test_read_and_write_may_wait_for_ever(config: type[BaseConfig], name: str) -> None:
    assert getattr(config(**{name: None}), name) is None
    assert refused(config, **{name: 0}).config_key == name


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True])
@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_positive_integers(config: type[BaseConfig], name: str, value: Any) -> None:
    assert refused(config, **{name: value}).config_key == name


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ClientConfig, "max_streams"),
        (ServerConfig, "max_sessions"),
        (ServerConfig, "max_streams_per_connection"),
    ],
)
def test_counts_of_one_side(config: type[BaseConfig], name: str) -> None:
    assert refused(config, **{name: 0}).config_key == name


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("value", [-1, 2**62, 1.0])
@pytest.mark.parametrize(
    "name", ["initial_max_data", "initial_max_streams_bidi", "initial_max_streams_uni"]
)
def test_credit_fits_into_a_varint(config: type[BaseConfig], name: str, value: Any) -> None:
    assert refused(config, **{name: value}).config_key == name
    assert getattr(config(**{name: 2**62 - 1}), name) == 2**62 - 1


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpn_protocols", []),
        ("alpn_protocols", "h3"),
        ("congestion_control_algorithm", "vegas"),
        ("engine", "quiche"),
        ("max_datagram_size", 0),
        ("max_datagram_size", 65536),
        ("max_stream_buffer_size", 65535),
        ("verify_mode", 5),
        ("wt_available_protocols", [""]),
    ],
)
def test_other_bad_values(config: type[BaseConfig], name: str, value: Any) -> None:
    error = refused(config, **{name: value})
    assert error.config_key == name
    assert repr(value) in str(error)


@pytest.mark.parametrize(
    ("name", "value"), [("bind_host", ""), ("bind_port", -1), ("bind_port", 65536)]
)
def test_bind_address(name: str, value: Any) -> None:
    assert refused(ServerConfig, **{name: value}).config_key == name


def test_server_needs_a_verify_mode_and_a_client_does_not() -> None:
    assert ClientConfig(verify_mode=None).verify_mode is None
    assert refused(ServerConfig, verify_mode=None).config_key == "verify_mode"


@pytest.mark.parametrize(
    "algorithm", ["reno", "cubic", "bbr", "default", "throughput", "low-latency"]
)
def test_congestion_control(algorithm: str) -> None:
    config = ServerConfig(congestion_control_algorithm=algorithm)
    assert config.congestion_control_algorithm == algorithm


def test_retries() -> None:
    assert ClientConfig(max_retries=0).max_retries == 0
    assert refused(ClientConfig, max_retries=-1).config_key == "max_retries"
    assert refused(ClientConfig, retry_backoff=0.9).config_key == "retry_backoff"


def test_proxy() -> None:
    proxy = ProxyConfig(url="http://proxy:3128")
    assert (proxy.headers, proxy.connect_timeout) == ({}, 10.0)
    proxy.connect_timeout = 0
    assert refused(ClientConfig, proxy=proxy).config_key == "proxy.connect_timeout"


def test_headers_are_lower_case_text_with_a_user_agent() -> None:
    config = ClientConfig(headers={"X-Number": 3}, user_agent="me/1")  # type: ignore[dict-item]
    assert config.headers == {"x-number": "3", "user-agent": "me/1"}
    assert ClientConfig(headers={"User-Agent": "other"}).headers == {"user-agent": "other"}
    assert refused(ClientConfig, headers=["a"]).config_key == "headers"


@pytest.mark.parametrize("name", ["ca_certs", "certfile", "keyfile"])
@pytest.mark.parametrize("config", CONFIGS)
def test_files_must_exist(config: type[BaseConfig], name: str, tmp_path: Path) -> None:
    there, missing = tmp_path / "there", str(tmp_path / "missing")
    there.touch()
    files = {"certfile": str(there), "keyfile": str(there), name: missing}
    with pytest.raises(CertificateError) as caught:
        config(**files)  # type: ignore[arg-type]
    assert caught.value.certificate_path == missing
    assert caught.value.certificate_error == "file_not_found"


@pytest.mark.parametrize("config", CONFIGS)
def test_certificate_and_key_come_together(config: type[BaseConfig], tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    error = refused(config, certfile=str(tmp_path / "x"))
    assert error.config_key == "certfile/keyfile"


def test_certificate_hashes_in_every_form() -> None:
    digest = bytes(range(32))
    config = ClientConfig(server_certificate_hashes=[digest, digest.hex(), digest.hex(":")])
    assert config.certificate_digests == [digest] * 3
    assert ClientConfig().certificate_digests == []


@pytest.mark.parametrize("value", ["ab", "zz" * 32, b"short", 32])
def test_bad_certificate_hashes(value: Any) -> None:
    error = refused(ClientConfig, server_certificate_hashes=[value])
    assert error.config_key == "server_certificate_hashes"
    assert error.config_value == value


GARBAGE: list[Any] = [
    None,
    [],
    [1],
    [None],
    {},
    {1: 2},
    (),
    "",
    "x",
    b"x",
    "a\0b",
    -1,
    1.5,
    float("nan"),
    10**30,
    True,
    object(),
    len,
]


@pytest.mark.parametrize(
    ("config", "name"),
    [(config, f.name) for config in CONFIGS for f in dataclasses.fields(config)],
)
def test_whatever_is_given_the_error_is_the_documented_one(
    config: type[BaseConfig], name: str
) -> None:
    for value in GARBAGE:
        try:
            made = config(**{name: value})
        except (ConfigurationError, CertificateError) as error:
            assert name in str(error) or str(value) in str(error)
        else:
            made.copy().validate()


@pytest.mark.parametrize("config", CONFIGS)
def test_files_may_be_path_objects(config: type[BaseConfig], tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert config(ca_certs=tmp_path / "x").ca_certs == tmp_path / "x"  # type: ignore[arg-type]


@pytest.mark.parametrize("config", CONFIGS)
def test_frozen(config: type[BaseConfig]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().debug = True  # type: ignore[misc]


@pytest.mark.parametrize("config", CONFIGS)
def test_update_changes_a_validated_copy(config: type[BaseConfig]) -> None:
    original = config()
    changed = original.update(debug=True, read_timeout=1.0)
    assert (changed.debug, changed.read_timeout) == (True, 1.0)
    assert (original.debug, original.read_timeout) == (False, 60.0)
    with pytest.raises(ConfigurationError):
        original.update(read_timeout=-1)
    with pytest.raises(ConfigurationError, match="colour") as caught:
        original.update(colour="red")
    assert caught.value.config_value == "red"


def test_update_takes_headers_as_given_and_follows_the_user_agent() -> None:
    config = ClientConfig()
    assert config.update(headers={"X": "1"}).headers == {"X": "1"}
    assert config.update(user_agent="me/2").headers == {"user-agent": "me/2"}
    assert ClientConfig(headers={"user-agent": "mine"}).update(user_agent="me/2").headers == {
        "user-agent": "mine"
    }


@pytest.mark.parametrize("config", CONFIGS)
def test_copy_is_deep(config: type[BaseConfig]) -> None:
    original = config()
    twin = original.copy()
    assert twin == original
    twin.alpn_protocols.append("h4")
    assert original.alpn_protocols == ["h3"]


def test_copy_shares_middleware_but_not_their_list() -> None:
    class Stateful:
        async def __call__(self, *, session: Any) -> bool:
            return True

    guard = Stateful()
    config = ServerConfig(middleware=[guard])
    twin = config.copy()
    assert twin.middleware == [guard]
    twin.middleware.clear()
    assert config.middleware == [guard]


@pytest.mark.parametrize("config", CONFIGS)
def test_dictionary_and_back(config: type[BaseConfig]) -> None:
    original = config(debug=True)
    values = original.to_dict()
    assert set(values) == {f.name for f in dataclasses.fields(config)}
    assert values["verify_mode"] == original.verify_mode.name  # type: ignore[attr-defined]
    assert config.from_dict(config_dict=values) == original
    with pytest.raises(ConfigurationError, match="colour"):
        config.from_dict(config_dict={**values, "colour": "red"})


def test_dictionary_keeps_the_proxy() -> None:
    proxy = ProxyConfig(url="http://proxy:3128")
    assert ClientConfig(proxy=proxy).to_dict()["proxy"] is proxy


def test_unknown_verify_mode_in_a_dictionary() -> None:
    with pytest.raises(ConfigurationError, match="verify_mode"):
        ClientConfig.from_dict(config_dict={"verify_mode": "CERT_MAYBE"})


def test_client_presets(tmp_path: Path) -> None:
    development = ClientConfig.create_for_development()
    assert development.verify_mode == ssl.CERT_NONE
    assert (development.debug, development.log_level) == (True, "DEBUG")
    verified = ClientConfig.create_for_development(verify_ssl=True)
    assert verified.verify_mode == ssl.CERT_REQUIRED
    authority = tmp_path / "ca.pem"
    authority.touch()
    production = ClientConfig.create_for_production(ca_certs=str(authority))
    assert (production.verify_mode, production.ca_certs) == (ssl.CERT_REQUIRED, str(authority))


def test_server_presets(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    development = ServerConfig.create_for_development(host="::1", port=1, certfile=str(file))
    assert (development.bind_host, development.bind_port) == ("::1", 1)
    assert (development.debug, development.certfile, development.keyfile) == (True, "", "")
    pair = {"certfile": str(file), "keyfile": str(file)}
    assert ServerConfig.create_for_development(**pair).certfile == str(file)  # type: ignore[arg-type]
    production = ServerConfig.create_for_production(host="h", port=2, **pair)
    assert production.verify_mode == ssl.CERT_NONE
    checked = ServerConfig.create_for_production(host="h", port=2, ca_certs=str(file), **pair)
    assert checked.verify_mode == ssl.CERT_OPTIONAL


def test_limits_of_what_comes_before_its_session() -> None:
    """At each limit, one past it, and when its time is over; in the core that engines share."""
    config = ServerConfig(
        max_pending_events_per_session=2, max_total_pending_events=3, pending_event_ttl=1.5
    )
    core = CoreConnection(core_config(config, is_client=False))
    core.handle_connected(3, 65535, 65535, False, False, 10.0)
    settings = {0x08: 1, 0x33: 1, 0x2B603742: 1, 0x2C7CF000: 1, 0x14E9CD29: 1}
    core.handle_stream_data(2, b"\0" + frame_encode(0x04, settings_encode(settings)), False, 10.0)
    core.drain()
    rejected = ErrorCodes.WT_BUFFERED_STREAM_REJECTED

    def stops(now: float) -> list[tuple[int, int]]:
        core.handle_timeout(now)
        return [action[1:] for action in core.drain() if action[0] == STOP_SENDING]

    for number, stopped in enumerate([[], [], [(6, rejected)]]):
        core.handle_stream_data(6 + 4 * number, b"\x40\x54\0early", False, 10.0 + number / 10)
        assert stops(10.2) == stopped, "the oldest makes room"
    for held in (1, 2, 3, 3):
        core.handle_datagram(b"\0early", 10.5)
        assert core.stats()["early_datagrams"] == held
    assert core.stats()["datagrams_dropped"] == 1
    assert stops(11.5) == []
    assert stops(11.6) == [(10, rejected)]
    assert stops(12.0) == [(14, rejected)]
    assert core.stats()["early_streams"] == core.stats()["early_datagrams"] == 0


@pytest.mark.parametrize("value", [0, -1, True, "10", 2**62])
def test_connections_of_an_address_are_a_count_or_none(value: object) -> None:
    assert ServerConfig().max_connections_per_address is None
    assert ServerConfig(max_connections_per_address=1).max_connections_per_address == 1
    error = refused(ServerConfig, max_connections_per_address=value)
    assert error.config_key == "max_connections_per_address"
