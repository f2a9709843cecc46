"""A row's images: out of the columns that the job names, checked against what the provider takes.

Belongs here: bytes, addresses, paths; what is refused before any call. Not here: a type and size in the bytes
(image_header.py), what a provider takes and how it counts (providers/).

A row is data and not the user's word, so that a path in it reaches nothing outside of the job file's folder. What a
user has linked into that folder is in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from batch_llm.errors import InputError
from batch_llm.image_header import GIF, JPEG, PNG, WEBP, read_header
from batch_llm.job.template import RenderError, TooLargeError
from batch_llm.providers.images import Image, ImageRules

__all__ = ["ImageColumns", "are_taken", "check_image_columns", "names_images"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ADDRESS = re.compile(r"[\x21-\x7e]+")  # what an address is written in
MOST_URL_CHARACTERS = 8_192
NAMED_TYPES = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".webp": WEBP, ".gif": GIF}  # how an address ends


def check_image_columns(names: Sequence[str], schema: pa.Schema) -> None:
    """Raise `InputError` for a column of the input that can hold no image."""
    for name in names:
        kind = schema.field(name).type
        if not (_is_text(kind) or _is_bytes(kind) or pa.types.is_null(kind)):
            raise InputError(f"images: the column {name!r} is {kind}; an image is bytes, or text: a URL or a path")


def names_images(names: Sequence[str], schema: pa.Schema) -> bool:
    """Whether rows only name their images, so that these may change while the input stays the same."""
    return any(_is_text(schema.field(name).type) for name in names)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def are_taken(images: Sequence[Image], rules: ImageRules | None) -> bool:
    """Whether another provider takes images that were read by the rules of one."""
    if rules is None:
        return not images
    size_bytes = sum(len(image.data) for image in images)
    addresses, most = sum(image.url is not None for image in images), rules.most_addresses
    return (
        len(images) <= rules.most_images
        and (most is None or addresses <= most)
        and size_bytes <= rules.most_request_bytes
        and all(_is_taken(image, rules) for image in images)
    )


def _is_taken(image: Image, rules: ImageRules) -> bool:
    scheme = _SCHEME.match(image.url or "")
    if scheme is not None:
        is_told = not rules.named_types or image.mime_type in rules.mime_types
        return is_told and scheme[1].lower() in rules.schemes
    fits = rules.most_side is None or max(image.width or 0, image.height or 0) <= rules.most_side
    return fits and image.mime_type in rules.mime_types and len(image.data) <= rules.most_bytes


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """The image columns of a job. Safe to use from several threads."""

    names: Sequence[str]
    folder: Path  # of the job file
    rules: ImageRules

    def read(self, row: Mapping[str, Any]) -> tuple[Image, ...]:
        """The row's images in the columns' order; a null is none. Blocking.

        Raises `RenderError` for what is no image, `TooLargeError` for too large a one; no message holds a value.
        """
        images = tuple(self._all(row))
        if len(images) > self.rules.most_images:
            raise TooLargeError(f"this row has {len(images):,} images; the provider takes {self.rules.most_images:,}")
        self._check_addresses(sum(image.url is not None for image in images))
        size_bytes, most = sum(len(image.data) for image in images), self.rules.most_request_bytes
        if size_bytes > most:
            raise TooLargeError(f"the images of this row have {size_bytes:,} bytes; at most {most:,} can be sent")
        return images

    def _check_addresses(self, addresses: int) -> None:
        most = self.rules.most_addresses
        if most is not None and addresses > most:
            raise TooLargeError(f"this row has {addresses:,} images behind addresses; the provider takes {most:,}")

    def _all(self, row: Mapping[str, Any]) -> Iterator[Image]:
        for name in self.names:
            value = row[name]
            if value is None:
                continue
            if isinstance(value, bytes):
                yield self._of_bytes(name, value)
            elif isinstance(value, str):
                yield self._of_text(name, value)
            else:
                raise _refused(name, "holds neither bytes nor text: an image is bytes, a URL or a path")

    def _of_text(self, name: str, text: str) -> Image:
        scheme = _SCHEME.match(text)
        if text.startswith("data:"):
            raise _refused(name, "is a data: URL: give the bytes themselves, in a column of bytes")
        if scheme is None:
            return self._of_bytes(name, self._file(name, text))
        if scheme[1].lower() not in self.rules.schemes:
            takes = ", ".join(f"{scheme}://" for scheme in sorted(self.rules.schemes)) or "none"
            raise _refused(name, f"is an address that the provider does not fetch from (it takes: {takes})")
        if len(text) > MOST_URL_CHARACTERS or not _ADDRESS.fullmatch(text):
            raise _refused(
                name, f"is no address: more than {MOST_URL_CHARACTERS:,} characters, or some that must be %-encoded"
            )
        return Image(f"url:{text}", mime_type=self._named_type(name, text), url=text)

    def _named_type(self, name: str, url: str) -> str:
        """The type of an image behind an address, as its path ends; nobody fetches the image to see."""
        ending = os.path.splitext(urlsplit(url).path)[1].lower()
        found = NAMED_TYPES.get(ending, "")
        if self.rules.named_types and found not in self.rules.mime_types:
            known = ", ".join(ending for ending, kind in NAMED_TYPES.items() if kind in self.rules.mime_types)
            raise _refused(name, f"is an address whose path does not end in {known}: the provider wants its type told")
        return found

    def _of_bytes(self, name: str, data: bytes) -> Image:
        if len(data) > self.rules.most_bytes:
            raise self._too_large(name, len(data))
        found = read_header(data)
        takes = ", ".join(sorted(kind.removeprefix("image/") for kind in self.rules.mime_types))
        if found is None:
            raise _refused(name, f"is no image that can be read, or is cut short (the provider takes: {takes})")
        if found.mime_type not in self.rules.mime_types:
            raise _refused(name, f"is {found.mime_type}, which the provider does not take (it takes: {takes})")
        most = self.rules.most_side
        if most is not None and max(found.width, found.height) > most:
            raise TooLargeError(
                f"the image in the column {name!r} has {found.width:,} x {found.height:,} pixels; the provider takes "
                f"{most:,} at most: make it smaller"
            )
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        return Image(digest, data, found.mime_type, found.width, found.height)

    def _file(self, name: str, text: str) -> bytes:
        folder = os.path.normpath(self.folder)
        path = os.path.normpath(os.path.join(folder, text))
        if not Path(path).is_relative_to(folder):
            raise _refused(
                name,
                "is a path that leads out of the job file's folder: a row may name files below that folder only; put "
                "the images there, or a link to their folder",
            )
        try:
            return self._read_file(name, path)
        except OSError as error:
            raise _refused(name, f"is a path that cannot be read ({error.strerror})") from None
        except UnicodeEncodeError:
            raise _refused(name, "is a text that no file can be called: it holds half a character") from None

    def _read_file(self, name: str, path: str) -> bytes:
        if "\0" in path:
            raise _refused(name, "is a text that no file can be called: it holds a NUL")
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _refused(name, "is the path of something that is no file")
            if found.st_size > self.rules.most_bytes:
                raise self._too_large(name, found.st_size)
            return file.read()

    def _too_large(self, name: str, size_bytes: int) -> TooLargeError:
        most = self.rules.most_bytes
        return TooLargeError(
            f"the image in the column {name!r} has {size_bytes:,} bytes; at most {most:,} can be sent: make it smaller"
        )


def _without_waiting(path: str, flags: int) -> int:
    """A named pipe would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _refused(name: str, why: str) -> RenderError:
    return RenderError(f"the image in the column {name!r} {why}")
