"""Defaults that callers may change without touching anyone else's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import pytest

from pywebtransport import constants
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.constants import (
    ClientConfigDefaults,
    Defaults,
    ErrorCodes,
    ServerConfigDefaults,
    get_default_client_config,
    get_default_server_config,
)


@pytest.mark.parametrize(
    ("defaults", "config"),
    [
        (get_default_client_config, ClientConfig),
        (Defaults.get_client_config, ClientConfig),
        (get_default_server_config, ServerConfig),
        (Defaults.get_server_config, ServerConfig),
    ],
)
def test_defaults_are_those_of_the_configuration(
    defaults: Callable[[], Any], config: type[ClientConfig] | type[ServerConfig]
) -> None:
    values = cast(dict[str, Any], defaults())
    made = config(**values)
    assert {f.name: getattr(made, f.name) for f in dataclasses.fields(made)} == {
        f.name: getattr(config(), f.name) for f in dataclasses.fields(config)
    }


@pytest.mark.parametrize("defaults", [get_default_client_config, get_default_server_config])
def test_defaults_share_nothing(
    defaults: Callable[[], ClientConfigDefaults | ServerConfigDefaults],
) -> None:
    first = defaults()
    first["alpn_protocols"].append("h4")
    first["max_connections"] = 1
    assert defaults()["alpn_protocols"] == ["h3"]
    assert defaults()["max_connections"] != 1


def test_client_headers_are_not_shared() -> None:
    get_default_client_config()["headers"]["x"] = "1"
    assert get_default_client_config()["headers"] == {}


def test_error_codes_are_integers() -> None:
    assert ErrorCodes.H3_FRAME_ERROR == 0x106
    assert ErrorCodes(0x170D7B68) is ErrorCodes.WT_SESSION_GONE


def test_everything_public_is_there() -> None:
    assert all(hasattr(constants, name) for name in constants.__all__)
