"""The choice of engine: a field of the configuration, an environment variable, a default."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from pywebtransport.constants import DEFAULT_ENGINE, ENGINES
from pywebtransport.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pywebtransport._engine.base import Engine
    from pywebtransport.config import ClientConfig, ServerConfig

__all__ = ["ENVIRONMENT_VARIABLE", "get_engine"]

ENVIRONMENT_VARIABLE = "PYWEBTRANSPORT_ENGINE"


def get_engine(config: ClientConfig | ServerConfig) -> Engine:
    """The engine of ``config.engine``, else of PYWEBTRANSPORT_ENGINE, else the default one."""
    name = config.engine or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ENGINE
    if name not in ENGINES:
        raise ConfigurationError(
            f"no engine is named {name!r}; there are {', '.join(ENGINES)}",
            config_key="engine",
            config_value=name,
        )
    path = f"pywebtransport._engine.{name}"
    try:
        # A look at what is loaded costs every connection less than the import system.
        module = sys.modules.get(path) or importlib.import_module(path)
    except ImportError as error:
        raise ConfigurationError(
            f"engine {name!r} cannot be used here: {error}", config_key="engine", config_value=name
        ) from error
    engine: Engine = module.ENGINE
    return engine
