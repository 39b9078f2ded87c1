"""The choice of engine."""

from __future__ import annotations

import sys

import pytest

from pywebtransport._engine.select import ENVIRONMENT_VARIABLE, get_engine
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.exceptions import ConfigurationError


def test_configuration_decides_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "native")
    assert get_engine(ClientConfig(engine="aioquic")).name == "aioquic"


def test_environment_decides_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "aioquic")
    assert get_engine(ServerConfig()).name == "aioquic"


def test_unknown_engine_is_named_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "quiche")
    with pytest.raises(ConfigurationError, match=r"'quiche'.*aioquic, native"):
        get_engine(ClientConfig())


def test_missing_library_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywebtransport._engine.aioquic", None)
    with pytest.raises(ConfigurationError, match="'aioquic' cannot be used here"):
        get_engine(ClientConfig(engine="aioquic"))
