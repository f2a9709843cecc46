"""Images to send: a true PNG of any size, and one of each other format.

Belongs here: bytes that several tests share. Not here: assertions.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from struct import pack

__all__ = ["GIF_1X1", "JPEG_1X1", "WEBP_1X1", "WEBP_ALPHA_1X1", "WEBP_LOSSLESS", "data_url", "png"]

# Known bytes, made by other programs: each is shown by every browser.
# Source: https://github.com/Modernizr/Modernizr/blob/master/feature-detects/img/webp.js (the three of WebP)
GIF_1X1 = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
JPEG_1X1 = b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////////"
    "////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
WEBP_1X1 = b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
WEBP_LOSSLESS = b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
WEBP_ALPHA_1X1 = b64decode(
    "UklGRkoAAABXRUJQVlA4WAoAAAAQAAAAAAAAAAAAQUxQSAwAAAARBxAR/Q9ERP8DAABWUDggGAAAABQBAJ0BKgEAAQAAAP4AAA3AAP7mtQAAAA=="
)


def png(width: int, height: int, *, grey: int = 0) -> bytes:
    """A picture of one shade of grey, 0 to 255."""
    head = pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([grey]) * width) * height
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    made = (pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def data_url(data: bytes, mime_type: str = "image/png") -> str:
    """Bytes in the form of an address."""
    return f"data:{mime_type};base64,{b64encode(data).decode()}"
