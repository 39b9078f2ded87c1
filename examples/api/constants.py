"""Codes and defaults."""

from __future__ import annotations

from pywebtransport.constants import (
    DEFAULT_CONNECT_TIMEOUT,
    ErrorCodes,
    get_default_client_config,
)


def main() -> None:
    print(f"{ErrorCodes.H3_REQUEST_REJECTED.name} is {ErrorCodes.H3_REQUEST_REJECTED:#x}")
    print(get_default_client_config()["connect_timeout"] == DEFAULT_CONNECT_TIMEOUT)


if __name__ == "__main__":
    main()
