"""What the Python side of the codecs adds: arguments, buffers, limits, errors."""

from __future__ import annotations

import array
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import _native as native

WT_CLOSE_SESSION = 0x2843
WT_DRAIN_SESSION = 0x78AE
WT_MAX_STREAMS_BIDI = 0x190B4D3F
MAX = 2**62 - 1


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
def test_any_buffer_is_read(wrap: Callable[[bytes], Any]) -> None:
    assert native.varint_decode(wrap(b"\x40\x25")) == (37, 2)
    assert list(native.frame_parse_many(wrap(b"\x00\x02hi"))) == [(0, b"hi")]
    assert native.section_decode(wrap(b"\x00\x00\xd9")) == [(b":status", b"200")]
    assert native.datagram_decode(wrap(b"\x01x")) == (4, b"x")
    assert native.datagram_encode(4, wrap(b"x")) == b"\x01x"
    assert native.settings_decode(wrap(b"\x08\x01")) == {8: 1}


def test_what_is_no_buffer_is_a_type_error() -> None:
    for wrong in ("text", 1, None):
        with pytest.raises(TypeError):
            native.section_decode(wrong)  # type: ignore[arg-type]


def test_numbers_outside_a_varint_are_refused() -> None:
    assert native.varint_encode(MAX) == b"\xff" * 8
    for wrong in (MAX + 1, 2**64 - 1):
        with pytest.raises(ValueError, match=str(wrong)):
            native.varint_encode(wrong)
        with pytest.raises(ValueError, match=str(wrong)):
            native.settings_encode({wrong: 1})
        with pytest.raises(ValueError, match=str(wrong)):
            native.frame_encode(wrong, b"")
    for wrong in (-1, 2**64):
        with pytest.raises(OverflowError):
            native.varint_encode(wrong)
    with pytest.raises(OverflowError):
        native.app_error_to_http(2**32)


def test_an_error_of_the_peer_carries_its_code() -> None:
    with pytest.raises(native.CodecError, match="0x33 must be 0 or 1, not 2") as caught:
        native.settings_decode(b"\x33\x02")
    assert caught.value.code == 0x109
    assert native.error_name(caught.value.code) == "H3_SETTINGS_ERROR"
    assert native.CodecError.code == 0
    assert native.error_name(0x1234) is None


def test_frames_are_a_sequence() -> None:
    data = b"\x00\x02hi" + b"\x21\x00" + b"\x00\x05cut"
    frames = native.frame_parse_many(data)
    assert len(frames) == 2
    assert frames[0] == frames[-2] == (0, b"hi")
    assert frames[1] == frames[-1] == (0x21, b"")
    assert frames.types() == [0, 0x21]
    assert [data[start:end] for start, end in frames.spans()] == [b"hi", b""]
    assert data[frames.consumed :] == b"\x00\x05cut"
    for wrong in (2, -3):
        with pytest.raises(IndexError):
            frames[wrong]


def test_the_section_limits_hold_at_the_limit_and_one_past_it() -> None:
    section = native.section_encode([(b":status", b"200"), (b"wt-protocol", b'"chat"')])
    size = sum(len(name) + len(value) + 32 for name, value in native.section_decode(section))
    for _ in range(2):  # the second time out of the cache
        assert len(native.section_decode(section, max_size=size, max_fields=2)) == 2
        for limit in ({"max_size": size - 1}, {"max_fields": 1}):
            with pytest.raises(native.CodecError) as caught:
                native.section_decode(section, **limit)
            assert caught.value.code == 0x107


def test_only_harmless_lines_are_remembered() -> None:
    def remembered(section: bytes) -> bool:
        for _ in range(3):
            native.section_decode(section)
        return native.section_decode(section)[0] is native.section_decode(section)[0]

    assert remembered(native.section_encode([(b"origin", b"https://remembered.example")]))
    assert remembered(native.section_encode([(b"x-remembered", b"1")]))
    for name in (b"cookie", b"set-cookie", b"authorization", b"proxy-authorization"):
        assert not remembered(native.section_encode([(name, b"secret")]))
    assert not remembered(b"\x00\x00" + b"\x31n\x01v")  # never indexed
    limit, framing = 192, 4  # flags with a length, the name, a length of two bytes
    for size, expected in ((limit - framing, True), (limit - framing + 1, False)):
        section = native.section_encode([(b"n", b"v" * size)], huffman=False)
        assert (len(section) - 2 <= limit, remembered(section)) == (expected, expected)


def test_what_is_encoded_again_and_again_stays_the_same() -> None:
    """Lines that come often are not coded anew; others at their place, and errors, do no harm."""
    for name in (b"user-agent", b"x-unknown", b"cookie", b"authorization"):
        for size in (31, 32, 100, 192 - len(name), 193 - len(name)):
            fields = [(name, b"ab.1" * (size // 4) + b"c" * (size % 4))]
            first = native.section_encode(fields)
            plain = native.section_encode(fields, huffman=False)
            for _ in range(3):
                assert native.section_encode(fields) == first
                assert native.section_encode(fields, huffman=False) == plain
                with pytest.raises(TypeError):
                    native.section_encode([*fields, None])  # type: ignore[list-item]
            assert native.section_decode(first) == native.section_decode(plain) == fields
    many = [
        [(b"x-%d" % number, b"value of %d, again and again and again" % number)]
        for number in range(1000)
    ]
    for fields in many * 3:
        assert native.section_decode(native.section_encode(fields)) == fields


@pytest.mark.parametrize(
    "fields", [[b"name"], [(b"name",)], [("name", "value")], [(b"name", "value")], [None]]
)
def test_a_wrong_field_is_a_type_error(fields: Any) -> None:
    with pytest.raises(TypeError, match="tuple of two bytes"):
        native.section_encode(fields)


def test_fields_may_come_from_any_iterable() -> None:
    fields = [(b":status", b"200"), (b"x", b"y")]
    assert native.section_encode(iter(fields)) == native.section_encode(fields)
    assert native.section_encode(tuple(fields)) == native.section_encode(fields)


def test_capsule_values_are_checked() -> None:
    wrongs: list[tuple[int, Any, type[Exception]]] = [
        (WT_CLOSE_SESSION, b"", TypeError),
        (WT_CLOSE_SESSION, (2**32, ""), OverflowError),
        (WT_DRAIN_SESSION, b"", ValueError),
        (WT_MAX_STREAMS_BIDI, 2**60 + 1, ValueError),
        (0x190B4D3E, 1, ValueError),
        (0x1717, None, TypeError),
    ]
    for type_, wrong, error in wrongs:
        with pytest.raises(error):
            native.capsule_encode(type_, wrong)


def test_an_over_long_reason_is_cut_between_characters() -> None:
    capsule = native.capsule_encode(WT_CLOSE_SESSION, (1, "x" * 1023 + "\u00e9"))
    _, length, start = native.capsule_decode_header(capsule) or pytest.fail("incomplete")
    assert length == 4 + 1023
    assert native.capsule_decode(WT_CLOSE_SESSION, capsule[start:]) == (1, "x" * 1023)


def test_structured_fields() -> None:
    assert native.string_list_parse('"moq-00", "chat";q=1') == ["moq-00", "chat"]
    assert native.string_list_parse('"moq-00", chat') is None
    assert native.string_list_format(["moq-00", 'a"b']) == '"moq-00", "a\\"b"'
    assert native.string_item_parse('"moq-00"') == "moq-00"
    assert native.string_item_parse("moq-00") is None
    assert native.string_item_format("chat") == '"chat"'
    with pytest.raises(ValueError, match="printable ASCII"):
        native.string_item_format("\u00e9")
    with pytest.raises(ValueError, match="printable ASCII"):
        native.string_list_format(["\n"])


def test_exporter_parts_have_at_most_255_bytes() -> None:
    long = b"x" * 255
    context = native.exporter_context_encode(4, long, long)
    assert native.exporter_context_decode(context) == (4, long, long)
    with pytest.raises(ValueError, match="label is 256 bytes"):
        native.exporter_context_encode(4, long + b"x")
    with pytest.raises(ValueError, match="not an exporter context"):
        native.exporter_context_decode(context[:-1])


fields = st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=12)


@given(fields, st.booleans())
def test_sections_survive(section: list[tuple[bytes, bytes]], huffman: bool) -> None:
    assert native.section_decode(native.section_encode(section, huffman=huffman)) == section


@given(st.binary(max_size=80))
def test_any_bytes_give_a_value_or_a_codec_error(data: bytes) -> None:
    native.varint_decode(data)
    native.frame_decode_header(data)
    list(native.frame_parse_many(data))
    calls: list[Callable[[], object]] = [
        lambda: native.settings_decode(data),
        lambda: native.capsule_decode_header(data),
        lambda: native.capsule_decode(WT_CLOSE_SESSION, data),
        lambda: native.stream_header_decode(data, unidirectional=True),
        lambda: native.stream_header_decode(data, unidirectional=False),
        lambda: native.datagram_decode(data),
        lambda: native.section_decode(b"\x00\x00" + data),
        lambda: native.QpackDecoderStream().feed(data),
        lambda: native.QpackEncoderStream().feed(data),
        lambda: native.reset_stream_at_decode(data),
        lambda: native.transport_parameters_decode(data),
    ]
    for call in calls:
        try:
            call()
        except native.CodecError as error:
            assert error.code > 0


def test_sections_decode_in_many_threads_at_once() -> None:
    sections = [[(b"x-thread", b"%d" % n), (b":path", b"/%d" % (n % 7))] for n in range(600)]
    encoded = [native.section_encode(section) for section in sections]
    failures: list[int] = []

    def work() -> None:
        for _ in range(20):
            for number, data in enumerate(encoded):
                if native.section_decode(data) != sections[number]:
                    failures.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
