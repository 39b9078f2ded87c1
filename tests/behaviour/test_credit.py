"""Session flow control as the application sees it: figures, waiting, going on."""

from __future__ import annotations

import pytest

from pywebtransport.exceptions import StreamError

from .conftest import MakeSite
from .site import blocked, within

LIMITS = {
    "initial_max_data": 1000,
    "initial_max_streams_bidi": 2,
    "initial_max_streams_uni": 2,
    "flow_control_window_auto_scale": False,
}


async def test_credit_of_data(site: MakeSite) -> None:
    pair = await (await site(**LIMITS)).pair()
    near, far = await pair.stream()
    assert (await pair.client.diagnostics()).send_credit_available == 999
    await near.write(data=bytes(399))
    assert (await pair.client.diagnostics()).send_credit_available == 600
    assert await within(far.readexactly(n=399)) == bytes(399)
    assert (await pair.server.diagnostics()).receive_credit_available == 600

    writing = await blocked(near.write(data=bytes(2000)))
    assert (await pair.client.diagnostics()).send_credit_available == 0
    assert await within(far.readexactly(n=2000)) == bytes(2000)
    await within(writing)
    diagnostics = await pair.server.diagnostics()
    assert 0 < diagnostics.receive_credit_available <= 1000
    connection = pair.server.connection
    assert connection is not None
    info = connection.get_session_info(session_id=pair.server.session_id)
    assert info is not None
    assert (info.peer_data_sent, info.local_data_sent) == (2400, 0)
    assert info.local_max_data == 2400 + diagnostics.receive_credit_available


@pytest.mark.parametrize("kind", ["bidirectional", "unidirectional"])
async def test_credit_of_streams(site: MakeSite, kind: str) -> None:
    pair = await (await site(**LIMITS)).pair()
    create = getattr(pair.client, f"create_{kind}_stream")
    accept = getattr(pair.server, f"accept_{kind}_stream")
    streams = [await create() for _ in range(2)]
    with pytest.raises(StreamError, match=rf"no further {kind} stream within 0\.01 s"):
        await create(timeout=0.01)
    opening = await blocked(create())
    await streams[0].write(data=b"x")
    far = await within(accept())
    await far.abort()
    await streams[0].abort()
    streams.append(await within(opening))
    assert len({stream.stream_id for stream in streams}) == 3
