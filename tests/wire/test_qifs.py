"""The QPACK interop corpus through Python: what four other encoders wrote."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pywebtransport import _native as native

QIFS = Path(__file__).parents[1] / "data" / "protocol" / "qifs"

Section = list[tuple[bytes, bytes]]


def qif(name: str) -> list[Section]:
    blocks = (QIFS / f"{name}.qif").read_bytes().split(b"\n\n")
    sections = [
        [(pair[0], pair[2]) for line in block.split(b"\n") if (pair := line.partition(b"\t"))[1]]
        for block in blocks
    ]
    return [section for section in sections if section]


def decode(file: Path) -> list[Section]:
    """Records are stream id, length and bytes; stream 0 is the encoder stream."""
    data, offset = file.read_bytes(), 0
    encoder_stream = native.QpackEncoderStream()
    sections = []
    while offset < len(data):
        stream, length = struct.unpack_from(">QI", data, offset)
        offset += 12
        record = data[offset : offset + length]
        offset += length
        if stream == 0:
            encoder_stream.feed(record)
        else:
            sections.append(native.section_decode(record))
    return sections


@pytest.mark.parametrize("encoder", ["ls-qpack", "nghttp3", "qthingey", "quinn"])
@pytest.mark.parametrize("name", ["fb-req", "fb-resp", "netbsd"])
def test_every_file_decodes_to_its_input(encoder: str, name: str) -> None:
    sections = decode(QIFS / encoder / f"{name}.out.0.0.0")
    assert sections == qif(name)
    print(f"{encoder} {name}: {len(sections)} sections, {sum(map(len, sections))} fields")
    for section in sections:
        assert native.section_decode(native.section_encode(section)) == section


@pytest.mark.parametrize("number", range(1, 13))
def test_the_damaged_files_give_their_codes(number: int) -> None:
    file = QIFS / "errors" / f"err{number}"
    if number in (9, 10):
        assert len(decode(file)) == 1
        return
    with pytest.raises(native.CodecError) as caught:
        decode(file)
    assert caught.value.code == (0x201 if number in (11, 12) else 0x200)
