"""A broker on the server, two clients, and a pattern that takes several topics."""

from __future__ import annotations

import asyncio

from examples.api.local import serving
from pywebtransport import WebTransportClient
from pywebtransport.pubsub import PubSubBroker, PubSubManager


async def main() -> None:
    async with (
        PubSubBroker() as broker,
        serving(broker.handle_session) as (url, config),
        WebTransportClient(config=config) as client,
    ):
        near, far = await client.connect(url=url), await client.connect(url=url)
        async with (
            PubSubManager(stream=await near.create_bidirectional_stream()) as reader,
            PubSubManager(stream=await far.create_bidirectional_stream()) as writer,
        ):
            async with await reader.subscribe(topic="weather.*") as subscription:
                await writer.publish(topic="weather.berlin", data="rain")
                await writer.publish(topic="news.berlin", data="not for the reader")
                await writer.publish(topic="weather.rome", data="sun")
                messages = subscription.messages()
                for _ in range(2):
                    message = await anext(messages)
                    print(message.topic, message.data)
            print("copies handed out:", broker.stats.messages_queued)


if __name__ == "__main__":
    asyncio.run(main())
