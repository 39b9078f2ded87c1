"""The line protocol: commands that end with a line feed, two of them with bytes behind. No I/O.

==========  ===========================  ==================================
client      ``SUB <topic>``              asks for a subscription
client      ``UNSUB <topic>``            ends it, no answer
client      ``PUB <topic> <n>``, n bytes publishes
server      ``SUB-OK <topic>``           the subscription stands
server      ``SUB-FAIL <topic> <why>``   it does not
server      ``MSG <topic> <n>``, n bytes a message, addressed to the subscription
server      ``TOPIC <topic>``            where the next MSG was published, when that differs
==========  ===========================  ==================================

All but ``TOPIC`` is what PyWebTransport 0.8 speaks. Its clients find the subscription by the text
they subscribed with, so a message for a pattern is addressed to the pattern; and they ignore
lines that they do not know, which is how the topic itself can come along.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pywebtransport.constants import DEFAULT_MAX_MESSAGE_SIZE, DEFAULT_STREAM_LINE_LIMIT
from pywebtransport.pubsub.exceptions import PubSubError

__all__ = ["Command", "CommandParser", "encode_line", "encode_message"]

PAYLOAD_VERBS = (b"PUB", b"MSG")
MAX_SIZE_DIGITS = 12


class Command(NamedTuple):
    """One command; ``data`` is the payload of PUB and MSG, and the reason of SUB-FAIL."""

    verb: str
    topic: str
    data: bytes


def encode_line(verb: str, topic: str, reason: str = "") -> bytes:
    """A command without a payload."""
    text = f"{verb} {topic} {reason}\n" if reason else f"{verb} {topic}\n"
    return text.encode("utf-8", "surrogateescape")


def encode_message(verb: str, topic: str, data: bytes) -> bytes:
    """PUB or MSG."""
    return b"%s %s %d\n%s" % (verb.encode(), topic.encode(), len(data), data)


class CommandParser:
    """Cuts a byte stream into commands, whatever the pieces it arrives in."""

    __slots__ = ("_buffer", "_max_line_size", "_max_message_size", "_pending")

    def __init__(
        self,
        *,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_line_size: int = DEFAULT_STREAM_LINE_LIMIT,
    ) -> None:
        self._buffer = bytearray()
        self._max_message_size = max_message_size
        self._max_line_size = max_line_size
        self._pending: tuple[str, str, int] | None = None
        """Verb, topic and size of the payload that comes next."""

    @property
    def size(self) -> int:
        """How many bytes of a command wait for the rest."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Command]:
        """The commands that are complete with these bytes.

        A line that is none comes out as a command too, for its reader to ignore. PubSubError when
        a line or a payload is larger than its limit, or the size of a payload is no number: where
        the next command begins cannot be known then.
        """
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while True:
                if self._pending is not None:
                    verb, topic, size = self._pending
                    end = position + size
                    if len(buffer) < end:
                        return
                    payload = bytes(buffer[position:end])
                    position = end
                    self._pending = None
                    yield Command(verb, topic, payload)
                    continue
                end = buffer.find(b"\n", position, position + self._max_line_size)
                if end < 0:
                    if len(buffer) - position >= self._max_line_size:
                        raise PubSubError(f"a line is longer than {self._max_line_size} bytes")
                    return
                line = bytes(buffer[position:end])
                position = end + 1
                command = self._parse(line)
                if command is not None:
                    yield command
        finally:
            del buffer[:position]

    def _parse(self, line: bytes) -> Command | None:
        verb, _, rest = line.partition(b" ")
        if verb in PAYLOAD_VERBS:
            topic, _, digits = rest.rpartition(b" ")
            if not digits.isdigit() or len(digits) > MAX_SIZE_DIGITS:
                raise PubSubError(f"{_text(verb)} without the size of its payload")
            size = int(digits)
            if size > self._max_message_size:
                raise PubSubError(
                    f"a message of {size} bytes is larger than {self._max_message_size}"
                )
            self._pending = (_text(verb), _text(topic), size)
            return None
        topic, _, reason = rest.partition(b" ") if verb == b"SUB-FAIL" else (rest, b"", b"")
        return Command(_text(verb), _text(topic), reason)


def _text(data: bytes) -> str:
    # What is not UTF-8 survives as it came, and no topic check lets it pass.
    return data.decode("utf-8", "surrogateescape")
