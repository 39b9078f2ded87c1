"""Topics and patterns: what is one, what matches, and a tree that agrees with the definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.pubsub.topic import (
    MAX_TOPIC_SIZE,
    PatternTree,
    check_pattern,
    check_topic,
    is_pattern,
    matches,
)


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("*", "a", True),
        ("*.*", "a.b", True),
        ("a.>", "a", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        (">", "a", True),
        (">", "a.b", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.>", "a.b", False),
        ("a.*.>", "a.b.c", True),
        ("a*", "a*", True),
        ("a*", "ab", False),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
    ],
)
def test_matches(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected
    tree = PatternTree()
    tree.add(pattern)
    assert tree.match(topic) == ([pattern] if expected else [])


@pytest.mark.parametrize("topic", ["a", "a.b", "a*", "*a", "a>b", "/path", "tøpic", "a..b", "."])
def test_topics(topic: str) -> None:
    check_topic(topic)
    check_pattern(topic)
    assert not is_pattern(topic)


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "*.a", "a.>", "*.>"])
def test_patterns(pattern: str) -> None:
    check_pattern(pattern)
    assert is_pattern(pattern)
    with pytest.raises(ValueError, match="pattern"):
        check_topic(pattern)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "\x00", "a\x7f", "\udcff", "\u3000"])
def test_what_is_neither(text: str) -> None:
    for check in (check_topic, check_pattern):
        with pytest.raises(ValueError, match="topic"):
            check(text)


def test_the_longest_topic_and_one_byte_more() -> None:
    check_topic("x" * MAX_TOPIC_SIZE)
    for text in ("x" * (MAX_TOPIC_SIZE + 1), "é" * (MAX_TOPIC_SIZE // 2) + "x"):
        with pytest.raises(ValueError, match="longer"):
            check_topic(text)


def test_the_rest_wildcard_stands_at_the_end() -> None:
    with pytest.raises(ValueError, match="end"):
        check_pattern("a.>.b")


tokens = st.sampled_from(["a", "b", "*", "a*"])
patterns = st.tuples(
    tokens,
    st.lists(st.one_of(tokens, st.just("")), max_size=2),
    st.sampled_from([[], [">"]]),
).map(lambda parts: ".".join([parts[0], *parts[1], *parts[2]]))
topics = st.lists(st.sampled_from(["a", "b", "", "a*"]), min_size=1, max_size=5).map(".".join)


@given(st.sets(patterns), topics)
def test_a_tree_finds_what_matches_and_forgets_what_is_discarded(
    wanted: set[str], topic: str
) -> None:
    tree = PatternTree()
    for pattern in wanted:
        tree.add(pattern)
        tree.add(pattern)
    found = tree.match(topic)
    assert len(found) == len(set(found))
    assert set(found) == {pattern for pattern in wanted if matches(pattern, topic)}
    for pattern in wanted:
        tree.discard(pattern)
        tree.discard(pattern)
    assert tree.match(topic) == []
    assert tree._root.branches == {}
    assert tree._exact == set()
