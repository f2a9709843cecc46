"""What an image's first bytes say, judged by images that other programs made."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.image_header import GIF, JPEG, PNG, WEBP, ImageHeader, read_header
from tests.pictures import GIF_1X1, JPEG_1X1, WEBP_1X1, WEBP_ALPHA_1X1, WEBP_LOSSLESS, png

ALL = [png(3, 5), GIF_1X1, JPEG_1X1, WEBP_1X1, WEBP_LOSSLESS, WEBP_ALPHA_1X1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(640, 480), (PNG, 640, 480)),
        (GIF_1X1, (GIF, 1, 1)),
        (JPEG_1X1, (JPEG, 1, 1)),
        (WEBP_1X1, (WEBP, 1, 1)),
        (WEBP_LOSSLESS, (WEBP, 1, 1)),
        (WEBP_ALPHA_1X1, (WEBP, 1, 1)),
        # longer than wide, with a comment before the frame header
        (b"\xff\xd8\xff\xfe\0\5abc\xff\xff\xc0\0\x11\x08\x04\xb0\x03\x20\x03" + b"\0" * 12, (JPEG, 800, 1_200)),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x1f\x03\0\xaf\x04\0", (WEBP, 800, 1_200)),
        (b"GIF89a\x20\x03\xb0\x04", (GIF, 800, 1_200)),
    ],
)
def test_type_and_size_are_read(data: bytes, expected: tuple[str, int, int]) -> None:
    assert read_header(data) == ImageHeader(*expected)


def test_a_picture_that_a_browser_took_is_read(root: Path) -> None:
    assert read_header((root / "docs/images/ui-partitions.png").read_bytes()) == ImageHeader(PNG, 1_440, 900)


@pytest.mark.parametrize(
    "data", [b"", b"text", b"<svg/>", b"%PDF-1.7", b"BM\0\0", png(0, 4), b"RIFF\0\0\0\0WAVE" + b"\0" * 30, b"\xff\xd8"]
)
def test_what_is_none_of_the_four_is_told(data: bytes) -> None:
    assert read_header(data) is None


@given(st.sampled_from(ALL), st.integers(0, 80), st.binary(max_size=60))
def test_nothing_breaks_it(data: bytes, kept: int, rest: bytes) -> None:
    """Cut short, and gone on with anything."""
    read_header(data[:kept])
    found = read_header(data[:kept] + rest)
    assert found is None or (found.width > 0 and found.height > 0)
