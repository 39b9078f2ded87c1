"""Configurations are checked when they are made, and changed by copy."""

from __future__ import annotations

from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.exceptions import ConfigurationError


def main() -> None:
    config = ClientConfig(connect_timeout=5.0, headers={"X-Token": "secret"})
    slower = config.update(connect_timeout=20.0)
    print(config.connect_timeout, slower.connect_timeout, slower.headers["x-token"])
    print(sorted(ServerConfig().to_dict())[:3])
    try:
        ClientConfig(connect_timeout=-1.0)
    except ConfigurationError as error:
        print(error)


if __name__ == "__main__":
    main()
