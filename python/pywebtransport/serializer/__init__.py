"""Objects to bytes and back: JSON, MessagePack and Protocol Buffers, with typed dataclasses.

A serializer is what structured streams and datagrams are given; it works just as well alone::

    serializer = JSONSerializer()
    data = serializer.serialize(obj=Point(x=1, y=2))
    point = serializer.deserialize(data=data, obj_type=Point)

MessagePack and Protocol Buffers need the extras ``msgpack`` and ``protobuf``.
"""

from __future__ import annotations

from pywebtransport.serializer.json import JSONSerializer
from pywebtransport.serializer.msgpack import MsgPackSerializer
from pywebtransport.serializer.protobuf import ProtobufSerializer

__all__ = ["JSONSerializer", "MsgPackSerializer", "ProtobufSerializer"]
