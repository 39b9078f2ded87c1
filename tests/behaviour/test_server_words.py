"""What a server says: addresses as one types them, and which file is the wrong one."""

from __future__ import annotations

import errno
import logging
import socket
import traceback
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.constants import ENGINES
from pywebtransport.exceptions import ClientError, ServerError
from tests.support.certificate import make_certificate


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_every_line_names_an_address_in_the_same_way(
    engine: str, host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="pywebtransport.server")
    pair = make_certificate(tmp_path)
    app = ServerApp(
        config=ServerConfig(
            certfile=pair.certfile,
            keyfile=pair.keyfile,
            bind_host=host.strip("[]"),
            bind_port=0,
            engine=engine,
        )
    )
    trusted = ClientConfig(ca_certs=pair.certfile, engine=engine)
    async with app, WebTransportClient(config=trusted) as client:
        await app.server.listen()
        assert app.server.local_address is not None
        at = f"{host}:{app.server.local_address[1]}"
        with pytest.raises(ClientError, match="404"):
            await client.connect(f"https://{at}/nowhere")
    lines = caplog.messages
    assert f"listening on {at}" in lines
    told = [line for line in lines if "/nowhere" in line]
    assert len(told) == 2
    assert all(f" peer={host}:" in line for line in told)


@pytest.mark.parametrize("engine", sorted(ENGINES))
async def test_an_address_in_use_is_named_once(engine: str, tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    config = ServerConfig(
        certfile=pair.certfile, keyfile=pair.keyfile, bind_host="::1", bind_port=0, engine=engine
    )
    async with ServerApp(config=config) as first, ServerApp(config=config) as second:
        await first.server.listen()
        assert first.server.local_address is not None
        port = first.server.local_address[1]
        with pytest.raises(ServerError) as caught:
            await second.server.listen(port=port)
        with pytest.raises(ServerError) as by_name:
            await second.server.listen(host="localhost", port=port)
    text = f"cannot listen on [::1]:{port}: Address already in use"
    assert caught.value.message == by_name.value.message == text


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_program_whose_address_is_in_use_ends_in_a_short_trace(
    engine: str, tmp_path: Path
) -> None:
    pair = make_certificate(tmp_path)
    config = ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile, engine=engine)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            ServerApp(config=config).run(host="127.0.0.1", port=port)
    places = [place.name for place in traceback.extract_tb(caught.tb)]
    assert places[1:] == ["run"]
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE
    assert caught.value.__cause__.__traceback__ is None


@pytest.mark.parametrize("engine", sorted(ENGINES))
async def test_swapped_files_are_told(engine: str, tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    config = ServerConfig(certfile=pair.keyfile, keyfile=pair.certfile, engine=engine)
    async with ServerApp(config=config) as app:
        with pytest.raises(ServerError, match="private key; are certfile and keyfile swapped"):
            await app.server.listen(host="127.0.0.1")
