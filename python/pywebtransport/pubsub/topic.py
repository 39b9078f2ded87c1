"""Topics and the patterns that match them. No I/O here.

A topic is a text of tokens separated by dots, ``weather.europe.berlin``, without white space or
control characters. In a pattern the token ``*`` stands for exactly one token, and ``>`` at the end
for one or more; anywhere else both are ordinary characters. These are the rules of NATS.
"""

from __future__ import annotations

import re

from pywebtransport._words import peer_text

__all__ = [
    "MAX_TOPIC_SIZE",
    "MAX_TOPIC_TOKENS",
    "PatternTree",
    "check_pattern",
    "check_topic",
    "is_pattern",
    "matches",
    "pattern_tokens",
]

MAX_TOPIC_SIZE = 1024
"""Bytes of a topic or a pattern in UTF-8."""
MAX_TOPIC_TOKENS = 16
"""Tokens of a topic or a pattern: how deep a tree of patterns can be."""

FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_topic(topic: str) -> None:
    """ValueError when it is no topic that can be published to."""
    _check_text(topic)
    if is_pattern(topic):
        raise ValueError(f"{peer_text(topic)} is a pattern; only a topic can be published to")


def check_pattern(pattern: str) -> None:
    """ValueError when it is neither a topic nor a pattern."""
    _check_text(pattern)
    if ">" in pattern.split(".")[:-1]:
        raise ValueError("> is allowed only at the end of a pattern")


def is_pattern(topic: str) -> bool:
    """Whether it has a token that is a wildcard."""
    if "*" not in topic and ">" not in topic:
        return False
    tokens = topic.split(".")
    return "*" in tokens or ">" in tokens


def pattern_tokens(pattern: str) -> int:
    """How many nodes of a tree it takes at most: none without a wildcard."""
    return pattern.count(".") + 1 if is_pattern(pattern) else 0


def matches(pattern: str, topic: str) -> bool:
    """Whether the pattern, or the very same topic, takes a message of the topic."""
    wanted, given = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
    elif len(given) != len(wanted):
        return False
    return all(token == "*" or token == here for token, here in zip(wanted, given, strict=False))


def _check_text(topic: str) -> None:
    if not topic:
        raise ValueError("a topic must not be empty")
    if FORBIDDEN.search(topic):
        raise ValueError("a topic must not contain white space or control characters")
    if len(topic) > MAX_TOPIC_SIZE or len(topic.encode()) > MAX_TOPIC_SIZE:
        raise ValueError(f"a topic must not be longer than {MAX_TOPIC_SIZE} bytes")
    if topic.count(".") >= MAX_TOPIC_TOKENS:
        raise ValueError(
            f"a topic must not have more than {MAX_TOPIC_TOKENS} tokens,"
            f" this one has {topic.count('.') + 1}"
        )


class _Node:
    __slots__ = ("branches", "pattern")

    def __init__(self) -> None:
        self.branches: dict[str, _Node] = {}
        self.pattern: str | None = None


class PatternTree:
    """A set of patterns that finds those matching a topic without looking at all of them."""

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._root = _Node()

    def add(self, pattern: str) -> None:
        """Put a pattern in; twice is once."""
        if not is_pattern(pattern):
            self._exact.add(pattern)
            return
        node = self._root
        for token in pattern.split("."):
            node = node.branches.setdefault(token, _Node())
        node.pattern = pattern

    def discard(self, pattern: str) -> None:
        """Take a pattern out, if it is in."""
        if not is_pattern(pattern):
            self._exact.discard(pattern)
            return
        tokens = pattern.split(".")
        path = [self._root]
        for token in tokens:
            node = path[-1].branches.get(token)
            if node is None:
                return
            path.append(node)
        path[-1].pattern = None
        for token, parent, node in zip(
            reversed(tokens), reversed(path[:-1]), reversed(path[1:]), strict=True
        ):
            if node.branches or node.pattern is not None:
                return
            del parent.branches[token]

    def match(self, topic: str) -> list[str]:
        """The patterns that take a message of the topic, the topic itself first."""
        found = [topic] if topic in self._exact else []
        if not self._root.branches:
            return found
        nodes = [self._root]
        for token in topic.split("."):
            reached: list[_Node] = []
            for node in nodes:
                rest = node.branches.get(">")
                if rest is not None and rest.pattern is not None:
                    found.append(rest.pattern)
                for branch in (node.branches.get(token), node.branches.get("*")):
                    if branch is not None:
                        reached.append(branch)
            if not reached:
                return found
            nodes = reached
        found += [node.pattern for node in nodes if node.pattern is not None]
        return found
