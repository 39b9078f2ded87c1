"""Every known vector has a test."""

from __future__ import annotations

from . import test_admission, test_datagrams, test_frames, test_quic, test_streams
from .vectors import TESTS, VECTORS

ROOMS = (test_admission, test_datagrams, test_frames, test_quic, test_streams)


def test_every_vector_has_a_test() -> None:
    assert [name for name in VECTORS if not TESTS[name]] == []
    assert {test.rsplit(".", 1)[0] for tests in TESTS.values() for test in tests} == {
        room.__name__ for room in ROOMS
    }
