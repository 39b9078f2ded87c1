"""Keys that both ends of a session derive, and nobody else."""

from __future__ import annotations

import pytest

from pywebtransport.exceptions import SessionClosedError

from .conftest import ENGINES, MakeSite


@pytest.mark.parametrize("client_engine", ENGINES)
async def test_both_ends_agree_and_everything_else_differs(
    site: MakeSite, client_engine: str
) -> None:
    place = await site(client={"engine": client_engine})
    pairs = [await place.pair() for _ in range(2)]
    keys = []
    for pair in pairs:
        for label in ("one", "two"):
            for context in (b"", b"one"):
                near, far = [
                    await end.export_keying_material(label=label, context=context, length=32)
                    for end in (pair.client, pair.server)
                ]
                assert near == far
                assert len(near) == 32
                keys.append(near)
    assert len(set(keys)) == len(keys)
    again = await pairs[0].server.export_keying_material(label=b"one", context="", length=32)
    assert again == keys[0]


@pytest.mark.parametrize("length", [1, 8160])
async def test_length_at_its_limits(site: MakeSite, length: int) -> None:
    pair = await (await site()).pair()
    key = await pair.client.export_keying_material(
        label="l" * 255, context="c" * 255, length=length
    )
    assert len(key) == length


async def test_what_cannot_be_exported(site: MakeSite) -> None:
    pair = await (await site()).pair()
    for length in (-1, 0, 8161, 1 << 40):
        with pytest.raises(ValueError, match=str(length)):
            await pair.client.export_keying_material(label="l", context="", length=length)
    for label, context in (("l" * 256, ""), ("l", "c" * 256)):
        with pytest.raises(ValueError, match="255"):
            await pair.client.export_keying_material(label=label, context=context, length=1)
    await pair.client.close()
    with pytest.raises(SessionClosedError):
        await pair.client.export_keying_material(label="l", context="", length=1)
