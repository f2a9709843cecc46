"""What the first bytes of an image say: its type and its size in pixels. Nothing is decoded.

Belongs here: the four formats that language models take. Not here: where an image comes from (engine/images.py), what a
provider takes (providers/images.py).
Source: https://www.w3.org/TR/png-3/ (IHDR comes first), https://www.w3.org/Graphics/GIF/spec-gif89a.txt (the logical
screen), https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.1.1.3, B.2.2: markers, the frame header),
https://developers.google.com/speed/webp/docs/riff_container, RFC 9649 (VP8, VP8L, VP8X) (read 2026-11-29).
"""

from __future__ import annotations

from struct import unpack_from
from typing import NamedTuple

__all__ = ["GIF", "JPEG", "PNG", "WEBP", "ImageHeader", "read_header"]

PNG, JPEG, GIF, WEBP = "image/png", "image/jpeg", "image/gif", "image/webp"
_PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's frame headers, whatever the coding
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG's markers without a length


class ImageHeader(NamedTuple):
    """What an image says of itself."""

    mime_type: str
    width: int  # pixels
    height: int


def read_header(data: bytes) -> ImageHeader | None:
    """The header of a PNG, JPEG, GIF or WebP; None for anything else, and where it is cut short or says nothing."""
    if data.startswith(_PNG_BEGINS):
        return _sized(PNG, unpack_from(">II", data, 16)) if data[12:16] == b"IHDR" and len(data) >= 24 else None
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _sized(GIF, unpack_from("<HH", data, 6)) if len(data) >= 10 else None
    if data.startswith(b"\xff\xd8"):
        return _sized(JPEG, _jpeg_size(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _sized(WEBP, _webp_size(data))
    return None


def _sized(mime_type: str, size: tuple[int, ...] | None) -> ImageHeader | None:
    return None if size is None or 0 in size else ImageHeader(mime_type, *size)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filled up
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 30:
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and data[20] == 0x2F:
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
