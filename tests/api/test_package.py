"""The package itself: what it exports, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import pywebtransport
from pywebtransport import _native


@pytest.mark.parametrize("name", pywebtransport.__all__)
def test_export_is_the_object_of_its_module(name: str) -> None:
    value = getattr(pywebtransport, name)
    home = getattr(value, "__module__", "")
    if home.startswith("pywebtransport."):
        assert getattr(importlib.import_module(home), name) is value


@pytest.mark.parametrize(
    "name",
    [
        "client",
        "config",
        "connection",
        "constants",
        "datagram",
        "events",
        "exceptions",
        "framework",
        "manager",
        "monitor",
        "pool",
        "protocol",
        "pubsub",
        "quic",
        "rpc",
        "serializer",
        "server",
        "session",
        "stream",
        "types",
        "utils",
        "version",
    ],
)
def test_module_is_an_attribute(name: str) -> None:
    code = f"import pywebtransport; print(pywebtransport.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"pywebtransport.{name}"


def test_names_are_listed_and_others_are_refused() -> None:
    assert set(pywebtransport.__all__) <= set(dir(pywebtransport))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pywebtransport.nonsense


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from pywebtransport import *", names)
    assert set(pywebtransport.__all__) <= set(names)


def test_version_is_that_of_the_extension() -> None:
    assert pywebtransport.__version__ == _native.__version__
    assert pywebtransport.ClientConfig().user_agent == f"pywebtransport/{_native.__version__}"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = loaded_by("import pywebtransport")
    assert not loaded & {"aioquic", "asyncio", "cryptography", "google.protobuf", "msgpack", "ssl"}


@pytest.mark.parametrize(
    "name", ["ClientConfig", "ServerConfig", "WebTransportClient", "ServerApp"]
)
def test_optional_packages_and_engines_are_imported_when_they_are_used(name: str) -> None:
    loaded = loaded_by(f"from pywebtransport import {name}")
    assert not loaded & {"aioquic", "cryptography", "google.protobuf", "msgpack"}
