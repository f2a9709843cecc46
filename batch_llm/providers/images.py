"""An image that belongs to a message, and what a kind of provider takes of them.

Belongs here: the two records. Not here: reading a row's images (engine/images.py), any provider's JSON or way of
counting (the files beside this one).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace

__all__ = ["MOST_IMAGE_BYTES", "MOST_REQUEST_BYTES", "Image", "ImageRules"]

MOST_IMAGE_BYTES = 20_000_000  # of one image, where a provider takes larger ones: several copies are held of a row
MOST_REQUEST_BYTES = 40_000_000  # of all images of one request, likewise


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is sent: its bytes, or an address from which the provider fetches it."""

    digest: str  # of its bytes, or of the address: a changed image is another question
    data: bytes = field(default=b"", repr=False)
    mime_type: str = ""  # empty where an address does not tell it
    width: int | None = None  # pixels; None where only the address is known
    height: int | None = None
    url: str | None = None

    @property
    def shown(self) -> str:
        """What it is, in words."""
        if self.url is not None:
            return f"image at {self.url}"
        return f"{self.mime_type}, {self.width:,} x {self.height:,} pixels, {len(self.data):,} bytes"

    @property
    def data_url(self) -> str:
        """Its address, or its bytes in the form of one."""
        return self.url or f"data:{self.mime_type};base64,{b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """What a kind of provider takes."""

    mime_types: frozenset[str]
    most_images: int  # of one request
    most_bytes: int = MOST_IMAGE_BYTES  # of one image
    most_request_bytes: int = MOST_REQUEST_BYTES  # of all of them
    most_side: int | None = None  # pixels, width and height; None: larger ones are taken as well
    schemes: frozenset[str]  # of the addresses it fetches from by itself
    most_addresses: int | None = None  # of one request; None: as many as images
    named_types: bool = False  # it wants an address's type: told by how its path ends
    # of a model and an image: the tokens it is billed as; where that cannot be known, the most that it can be
    tokens: Callable[[str, Image], int]

    def and_at(self, other: ImageRules) -> ImageRules:
        """What another pool of the same kind takes as well."""
        known = [most for most in (self.most_addresses, other.most_addresses) if most is not None]
        return replace(self, schemes=self.schemes & other.schemes, most_addresses=min(known, default=None))
