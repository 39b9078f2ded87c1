"""Serializers: typed round trips, the lenient and the strict conversion, every refusal."""

from __future__ import annotations

import enum
import sys
import threading
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar, Union

import msgpack
import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.types import Serializer

UserId = NewType("UserId", int)
T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Named:
    x: int
    name: str


@dataclass
class Node:
    """Its annotations are strings, and one of them names the class itself."""

    label: str
    children: list[Node] = field(default_factory=list)
    parent: Node | None = None


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Everything:
    point: Point
    points: list[Point]
    by_name: dict[str, Point]
    pair: tuple[int, Point]
    numbers: tuple[int, ...]
    unique: set[int]
    frozen: frozenset[str]
    groups: dict[str, set[int]]
    optional: Optional[Point]  # noqa: UP045
    nullable: Point | None
    union: Union[Point, Named]  # noqa: UP007
    user: UserId
    checked: Annotated[int, "positive"]
    mode: Literal["fast", "safe"]
    box: Box[int]
    anything: Any
    derived: int = field(init=False, default=7)


EVERYTHING = Everything(
    point=Point(1, 2),
    points=[Point(3), Point(4)],
    by_name={"a": Point(5)},
    pair=(6, Point(7)),
    numbers=(8, 9),
    unique={1, 2, 3},
    frozen=frozenset({"x"}),
    groups={"even": {2, 4}},
    optional=Point(10),
    nullable=None,
    union=Named(11, "n"),
    user=UserId(12),
    checked=13,
    mode="safe",
    box=Box(14),
    anything=[{"k": 1}],
)

PLAIN = [JSONSerializer(), MsgPackSerializer(), JSONSerializer(strict=True)]
LENIENT, STRICT = JSONSerializer(), JSONSerializer(strict=True)


def read(text: str, obj_type: Any, serializer: JSONSerializer = LENIENT) -> Any:
    return serializer.deserialize(data=text.encode(), obj_type=obj_type)


@pytest.mark.parametrize("serializer", [*PLAIN, MsgPackSerializer(strict=True)])
def test_every_kind_of_field_makes_the_round_trip(serializer: Serializer) -> None:
    data = serializer.serialize(obj=EVERYTHING)
    assert serializer.deserialize(data=data, obj_type=Everything) == EVERYTHING


@pytest.mark.parametrize("serializer", PLAIN)
def test_a_class_that_contains_itself(serializer: Serializer) -> None:
    tree = Node("root", [Node("leaf", parent=Node("other"))])
    data = serializer.serialize(obj=tree)
    assert serializer.deserialize(data=data, obj_type=Node) == tree


def test_bytes_are_those_of_the_standard_encoders() -> None:
    assert JSONSerializer().serialize(obj=Point(1, 2)) == b'{"x": 1, "y": 2}'
    assert JSONSerializer().serialize(obj=["é", None, 1.5]) == b'["\\u00e9", null, 1.5]'
    compact = JSONSerializer(separators=(",", ":"), ensure_ascii=False)
    assert compact.serialize(obj={"k": "é"}) == '{"k":"é"}'.encode()
    assert MsgPackSerializer().serialize(obj=Point(1, 2)) == b"\x82\xa1x\x01\xa1y\x02"
    assert MsgPackSerializer().serialize(obj=b"\xff") == b"\xc4\x01\xff"


def test_a_default_is_asked_about_what_is_no_dataclass() -> None:
    serializer = JSONSerializer(default=str)
    text = "8f1c7e5e-7d3b-4c1a-9a55-0e6a2d7b1c11"
    value = uuid.UUID(text)
    assert serializer.serialize(obj=[Point(1), value]) == f'[{{"x": 1, "y": 0}}, "{text}"]'.encode()
    assert read(f'"{text}"', uuid.UUID) == value
    packed = MsgPackSerializer(pack_kwargs={"default": str}).serialize(obj=value)
    assert MsgPackSerializer().deserialize(data=packed, obj_type=uuid.UUID) == value


@pytest.mark.parametrize(
    ("text", "obj_type", "value"),
    [
        ('{"x": 1, "unknown": 2}', Point, Point(1)),
        ('{"x": "5"}', Point, Point(5)),
        ('{"x": "five"}', Point, Point("five")),  # type: ignore[arg-type]
        ("null", Point, None),
        ("null", list[int], None),
        ('[1, "2"]', list[int], [1, 2]),
        ("[1, 1]", set, {1}),
        ("[1, 2]", tuple, (1, 2)),
        ('{"1": 2}', dict[int, str], {1: "2"}),
        ('"five"', int, "five"),
        ("5.7", int, 5),
        ("5", str, "5"),
        ('"red"', Color, Color.RED),
        ('"blue"', Color, "blue"),
        ('"text"', int | str, "text"),
        ('"5"', int | None, "5"),
        ('{"x": 1}', Point | None, Point(1)),
        ('{"x": 1, "name": "n"}', Point | Named, Named(1, "n")),
        ('{"x": 1}', Point | Named, Point(1)),
        ("[1]", list[Point] | list[int], [1]),
        ("12", bytes, 12),
        ('"other"', Literal["fast"], "other"),
        ("[1]", Any, [1]),
    ],
)
def test_lenient_conversion(text: str, obj_type: Any, value: Any) -> None:
    converted = read(text, obj_type)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("text", "obj_type"),
    [
        ("{}", Point),
        ("[1]", Point),
        ("3", Point),
        ('{"children": []}', Node),
        ('{"label": "a", "children": [{}]}', Node),
        ('{"label": "a", "children": 1}', Node),
        ('{"x": 1}', Named | None),
        ('"ab"', list[str]),
        ("[1]", tuple[int, int]),
        ("3", tuple[int, int]),
        ("[1]", dict[str, int]),
        ("[[1]]", set[Any]),
        ("1", 5),
    ],
)
def test_a_value_of_the_wrong_shape_is_refused(text: str, obj_type: Any) -> None:
    for serializer in (LENIENT, STRICT):
        with pytest.raises(SerializationError):
            read(text, obj_type, serializer)


@pytest.mark.parametrize(
    ("text", "obj_type"),
    [
        ('{"x": "5"}', Point),
        ('{"x": true}', Point),
        ('{"x": null}', Point),
        ("null", Point),
        ("null", list[int]),
        ("1", None | str),
        ("1", type(None)),
        ('"5"', int),
        ("5.7", int),
        ("5", str),
        ('"blue"', Color),
        ('"5"', int | None),
        ('"other"', Literal["fast"]),
        ("true", Literal[1]),
        ('{"a": 1}', dict[int, int]),
    ],
)
def test_the_strict_mode_refuses_a_value_of_another_type(text: str, obj_type: Any) -> None:
    with pytest.raises(SerializationError):
        read(text, obj_type, STRICT)


@pytest.mark.parametrize(
    ("text", "obj_type", "value"),
    [
        ("5", float, 5.0),
        ('"5"', int | str, "5"),
        ('{"1": 2}', dict[int, int], {1: 2}),
        ('"red"', Color, Color.RED),
        ("null", int | None, None),
        ("1", Any, 1),
    ],
)
def test_the_strict_mode_still_converts_what_json_cannot_say(
    text: str, obj_type: Any, value: Any
) -> None:
    converted = read(text, obj_type, STRICT)
    assert converted == value
    assert type(converted) is type(value)


def test_a_class_of_a_function_is_found_as_far_as_its_annotations_reach() -> None:
    @dataclass
    class Inner:
        x: int

    @dataclass
    class Outer:
        number: int
        inner: Inner

    data = LENIENT.serialize(obj=Outer(1, Inner(2)))
    outer = LENIENT.deserialize(data=data.replace(b"1", b'"1"'), obj_type=Outer)
    assert (outer.number, outer.inner) == (1, {"x": 2})
    with pytest.raises(SerializationError, match="Inner"):
        STRICT.deserialize(data=data, obj_type=Outer)


def test_what_a_constructor_raises_is_chained() -> None:
    @dataclass
    class Positive:
        x: int

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("negative")

    with pytest.raises(SerializationError, match="negative") as caught:
        read('{"x": -1}', Positive)
    assert isinstance(caught.value.original_exception, ValueError)


@pytest.mark.parametrize("serializer", PLAIN)
@pytest.mark.parametrize("obj", [{1}, object(), [Point], Color.RED, 1 + 2j])
def test_what_has_no_plain_form_is_refused(serializer: Serializer, obj: object) -> None:
    with pytest.raises(SerializationError):
        serializer.serialize(obj=obj)


@pytest.mark.parametrize("serializer", PLAIN)
def test_a_serializer_works_on_after_a_refusal(serializer: Serializer) -> None:
    before = serializer.serialize(obj=[1, Point(2)])
    with pytest.raises(SerializationError):
        serializer.serialize(obj=[1, 2, object()])
    assert serializer.serialize(obj=[1, Point(2)]) == before


@pytest.mark.parametrize("serializer", PLAIN)
def test_an_object_that_contains_itself_is_refused(serializer: Serializer) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError):
        serializer.serialize(obj=endless)
    node = Node("loop")
    node.parent = node
    with pytest.raises(SerializationError):
        serializer.serialize(obj=node)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1] 2", b"[" * 100_000, b"9" * 10_000])
def test_bytes_that_are_not_json(data: bytes) -> None:
    with pytest.raises(SerializationError):
        JSONSerializer().deserialize(data=data)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x01\x02", b"\x92\x01", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000]
)
def test_bytes_that_are_not_message_pack(data: bytes) -> None:
    with pytest.raises(SerializationError):
        MsgPackSerializer().deserialize(data=data)


def test_nesting_as_deep_as_json_allows_does_not_break_the_conversion() -> None:
    depth = sys.getrecursionlimit() // 3
    data = b'{"label": "n", "children": [' * depth + b"]}" * depth
    try:
        node = LENIENT.deserialize(data=data, obj_type=Node)
    except SerializationError:
        return
    assert isinstance(node, Node)


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for serializer in (*PLAIN, MsgPackSerializer(strict=True)):
        for obj_type in (None, Everything, Node, Point | Named):
            try:
                serializer.deserialize(data=data, obj_type=obj_type)
            except SerializationError as error:
                assert str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(json_values)
def test_plain_values_make_the_round_trip(value: Any) -> None:
    for serializer in PLAIN:
        assert serializer.deserialize(data=serializer.serialize(obj=value)) == value


@given(json_values)
def test_no_plain_value_makes_a_conversion_raise_anything_else(value: Any) -> None:
    for serializer in (LENIENT, STRICT):
        data = serializer.serialize(obj={"label": value, "children": value, "point": value})
        for obj_type in (Everything, Node, Union[Node, Point]):  # noqa: UP007
            try:
                serializer.deserialize(data=data, obj_type=obj_type)
            except SerializationError as error:
                assert str(error)


@pytest.mark.parametrize("data", [b'{"x": 1}', bytearray(b'{"x": 1}'), memoryview(b'{"x": 1}')])
def test_any_buffer_is_read(data: bytes) -> None:
    assert LENIENT.deserialize(data=data, obj_type=Point) == Point(1)


def test_options_reach_msgpack() -> None:
    serializer = MsgPackSerializer(
        pack_kwargs={"use_single_float": True}, unpack_kwargs={"strict_map_key": False}
    )
    assert serializer.serialize(obj=0.5) == msgpack.packb(0.5, use_single_float=True)
    assert serializer.deserialize(data=msgpack.packb({1: 2})) == {1: 2}
    with pytest.raises(SerializationError):
        MsgPackSerializer().deserialize(data=msgpack.packb({1: 2}))


def test_one_serializer_in_many_threads() -> None:
    serializer = MsgPackSerializer()
    expected = serializer.serialize(obj=EVERYTHING)
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(200):
            data = serializer.serialize(obj=EVERYTHING)
            if data != expected:
                wrong.append(data)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_default_that_serializes_with_the_same_serializer() -> None:
    serializer = MsgPackSerializer(pack_kwargs={"default": lambda obj: serializer.serialize(obj=1)})
    assert serializer.serialize(obj=[object(), "end"]) == b"\x92\xc4\x01\x01\xa3end"


def test_protobuf_round_trip() -> None:
    serializer = ProtobufSerializer(message_class=Struct)
    message = Struct()
    message.update({"a": 1, "b": [True, None]})
    data = serializer.serialize(obj=message)
    assert data == message.SerializeToString()
    assert serializer.deserialize(data=data) == message
    assert serializer.deserialize(data=data, obj_type=Struct) == message


def test_protobuf_refusals() -> None:
    serializer = ProtobufSerializer(message_class=Struct)
    with pytest.raises(SerializationError):
        serializer.serialize(obj=Value())
    with pytest.raises(SerializationError):
        serializer.serialize(obj={"a": 1})
    with pytest.raises(SerializationError):
        serializer.deserialize(data=b"", obj_type=Value)
    with pytest.raises(SerializationError):
        serializer.deserialize(data=b"\xff\xff\xff")
    for wrong in (dict, "Struct", Struct()):
        with pytest.raises(TypeError):
            ProtobufSerializer(message_class=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "make", "key"),
    [
        ("msgpack", MsgPackSerializer, "dependency.msgpack"),
        (
            "google.protobuf.message",
            lambda: ProtobufSerializer(message_class=Struct),
            "dependency.protobuf",
        ),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, make: Any, key: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match="pip install") as caught:
        make()
    assert caught.value.config_key == key


def test_all_are_serializers() -> None:
    for serializer in (*PLAIN, ProtobufSerializer(message_class=Struct)):
        assert isinstance(serializer, Serializer)
