"""Frames as RFC 6455 section 5.2 has them, at each of its three forms of length."""

from __future__ import annotations

import pytest

from penstock.notifications.frames import text_frame


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (0, b"\x00"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (65_535, b"\x7e\xff\xff"),
        (65_536, b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_is_final_unmasked_text_of_the_stated_length(size: int, length: bytes) -> None:
    payload = b"x" * size
    assert text_frame(payload) == b"\x81" + length + payload
