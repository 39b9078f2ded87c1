"""What an error tells: text, code, category, whether to try again."""

from __future__ import annotations

import asyncio

from examples.api.local import free_port
from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import (
    WebTransportError,
    get_error_category,
    is_retriable_error,
)


async def main() -> None:
    async with WebTransportClient(config=ClientConfig(connect_timeout=5.0)) as client:
        try:
            await client.connect(url=f"https://127.0.0.1:{free_port()}/")
        except WebTransportError as error:
            print(error)
            print(get_error_category(exception=error), is_retriable_error(exception=error))


if __name__ == "__main__":
    asyncio.run(main())
