"""Every public name exists, once."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import pywebtransport

MODULES = [
    "pywebtransport",
    *(
        module.name
        for module in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport.")
        if not module.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_what_exists(name: str) -> None:
    module = importlib.import_module(name)
    listed = list(getattr(module, "__all__", ()))
    assert len(listed) == len(set(listed)), "a name is listed twice"
    assert [each for each in listed if not hasattr(module, each)] == []
    if not name.rpartition(".")[2].startswith("_") and "._" not in name:
        assert listed, f"{name} is public and lists nothing"


def test_the_package_knows_its_version() -> None:
    from importlib.metadata import version

    assert pywebtransport.__version__ == version("pywebtransport-native")
