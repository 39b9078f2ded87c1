"""What a peer says cannot forge the log, and what is secret is not in it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport._words import peer_path, peer_text, redacted
from pywebtransport.exceptions import ConfigurationError, SessionError
from pywebtransport.pubsub import RedisBackplane
from pywebtransport.session import WebTransportSession
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within
from tests.support.certificate import Certificate

from .place import Place, until

FORGED = (
    '"\n2026-11-26 00:00:00 pywebtransport.server INFO session open: path="/admin"\x1b[2J\u202e'
)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("bye", '"bye"'),
        ("grüße, 世界", '"grüße, 世界"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a\nb\x1b[0m\x7f\u202e\u2028", '"a\\nb\\x1b[0m\\x7f\\u202e\\u2028"'),
        ("", '""'),
        (b"bytes", "\"b'bytes'\""),
        ("x" * 200, f'"{"x" * 200}"'),
        ("x" * 201, f'"{"x" * 200}"... (201 characters)'),
    ],
)
def test_words_of_a_peer(words: object, shown: str) -> None:
    assert peer_text(words) == shown


def test_a_path_is_shown_without_its_query() -> None:
    assert peer_path("/chat?token=secret") == '"/chat?..."'
    assert peer_path(None) == '"/"'


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://admin:hunter2@127.0.0.1:1/0", "redis://***@127.0.0.1:1/0"),
        ("nats://a:b@one:1,nats://c:d@two:2", "nats://***@one:1,nats://***@two:2"),
        ("https://host/path?token=hunter2", "https://host/path?..."),
        ("https://host/a@b", "https://host/a@b"),
        ("https://[::1]:4433/a@b", "https://[::1]:4433/a@b"),
        ("https://u:SEC/RET@host/", "https://***@host/"),
        ("https://u:SEC?RET@host/", "https://***@host/"),
        ("redis://:pa/ss@host:1/0", "redis://***@host:1/0"),
        ("redis://:12/34@host:1/0", "redis://***@host:1/0"),
        ("nats://u:pa#ss@one,nats://c:d,e@two", "nats://***@one,nats://***@two"),
        ("https://host/path#token", "https://host/path#..."),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert redacted(url) == shown


async def test_a_peer_cannot_forge_the_access_log(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    here = await site(server={"access_log": True})
    async with WebTransportClient(config=here.client_config) as client:
        session = await client.connect(url=f"{here.url}x%22peer=9.9.9.9:1?token=hunter2")
        served = await within(here.sessions.get())
        await session.close(code=3, reason=FORGED)
        await within(served.wait_closed())
        with pytest.raises(SessionError) as raised:
            await served.create_bidirectional_stream()
    lines = [record.getMessage() for record in caplog.records]
    told = [line for line in lines if line.startswith(("session open", "session closed"))]
    assert len(told) == 2
    for text in (*lines, str(raised.value), repr(served)):
        assert text.isprintable()
        assert "hunter2" not in text
    assert 'path="/x%22peer=9.9.9.9:1?..." peer=127.0.0.1:' in told[0]
    assert r'reason="\"\n2026-11-26' in told[1]
    assert r"\x1b[2J\u202e" in str(raised.value)


async def test_a_backplane_does_not_tell_its_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="pywebtransport")
    backplane = RedisBackplane("redis://admin:hunter2@127.0.0.1:1/0")
    told = asyncio.Event()
    events: list[object] = []

    def keep(event: object) -> None:
        events.append(event)
        told.set()

    backplane.events.on_any(handler=keep)
    await backplane.start(lambda pattern, topic, data: True)
    await within(told.wait())
    await backplane.stop()
    assert "redis://***@127.0.0.1:1/0" in caplog.text
    assert "hunter2" not in caplog.text + repr([vars(event) for event in events])


async def test_a_client_does_not_tell_what_is_in_its_url() -> None:
    async with WebTransportClient(config=ClientConfig()) as client:
        with pytest.raises(ConfigurationError) as raised:
            await client.connect(url="https://admin:hunter2@localhost/?token=hunter2")
    assert "hunter2" not in f"{raised.value!s} {raised.value!r} {raised.value.to_dict()}"


async def test_the_reason_of_a_peer_is_escaped_in_every_log(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forged = 'bye)\n2026-01-01 INFO session open: path="/admin" \x1b[31m'
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def stay(session: WebTransportSession) -> None:
            await session.wait_closed()

        async with place.client() as client:
            session = await client.connect(place.url())
            await session.connection.close(reason=forged)
        await until(lambda: "bye)" in caplog.text)
    for record in caplog.records:
        assert record.getMessage().isprintable(), record
