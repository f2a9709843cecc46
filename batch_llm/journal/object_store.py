"""Whole objects in a store that fsspec knows: S3, GCS, a folder, memory.

Belongs here: putting, getting, listing and deleting objects, and each store's errors as ours. Not here: what an object
holds (segments.py, shared_runs.py).
Nothing is kept of a listing: other machines write as well. No message shows credentials, because none are in the URL.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

import fsspec

from batch_llm.errors import ConfigurationError, JournalUnreachable

__all__ = ["ObjectStore"]

PIECE_BYTES: Final = 8 * 1024 * 1024  # what is held in memory at a time

# an extra of ours that brings the client of a store
EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

# what a store's client raises beside OSError, by name: it may not be installed
FOREIGN_ERRORS: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("botocore.exceptions:BotoCoreError", "botocore.exceptions:ClientError"),
    "gcs": ("google.auth.exceptions:GoogleAuthError", "aiohttp:ClientError", "gcsfs.retry:HttpError"),
}


class ObjectStore:
    """The objects under one URL. Any thread may call; nothing is opened before the first call.

    Every call raises `JournalUnreachable` when the store does not do what it was asked, and `ConfigurationError` when
    the URL's kind is unknown or its client is not installed.
    """

    def __init__(self, url: str) -> None:
        """``url``: with a scheme, without credentials (`Settings.journal_url`)."""
        self.url = url.rstrip("/")
        self._opened: tuple[Any, str, tuple[type[Exception], ...]] | None = None

    def put(self, name: str, data: bytes) -> None:
        """Write an object, whole or not at all; in the place of one with this name."""
        with self._asked("write", name) as (files, path):
            files.pipe_file(path, data)

    def put_file(self, name: str, file: Path) -> None:
        """Write an object from a local file, whole or not at all; in pieces where the store can."""
        with self._asked("write", name) as (files, path):
            files.put_file(str(file), path)

    def get(self, name: str) -> bytes | None:
        """What an object holds; None when there is none."""
        with self._asked("read", name) as (files, path):
            try:
                data: bytes = files.cat_file(path)
            except FileNotFoundError:
                return None
            return data

    def get_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """What these objects hold, several at once; those that are not there are left out."""
        wanted = list(names)
        if not wanted:
            return {}
        with self._asked("read", wanted[0]) as (files, _):
            paths = {self._path(name): name for name in wanted}
            answers = files.cat(list(paths), on_error="return")  # `omit` would take a fault for an absent object
            for answer in answers.values():
                if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                    raise answer
            return {paths[path]: data for path, data in answers.items() if isinstance(data, bytes)}

    def copy_to(self, name: str, write: Callable[[bytes], object], start: int, end: int) -> int:
        """Hand some bytes of an object to ``write``, in pieces; their CRC-32."""
        checksum = 0
        for piece in range(start, end, PIECE_BYTES):
            with self._asked("read", name) as (files, path):
                data: bytes = files.cat_file(path, start=piece, end=min(end, piece + PIECE_BYTES))
            write(data)
            checksum = zlib.crc32(data, checksum)
        return checksum

    def get_file(self, name: str, file: Path) -> None:
        """Copy an object into a local file."""
        with self._asked("read", name) as (files, path):
            files.get_file(path, str(file))

    def names(self, folder: str) -> dict[str, int]:
        """All objects below ``folder``, however deep, with their sizes in bytes; names begin with ``folder``."""
        with self._asked("list", folder) as (files, path):
            files.invalidate_cache()
            try:
                found = files.find(path, detail=True)
            except FileNotFoundError:
                return {}
            root = len(self._path("").rstrip("/")) + 1
            # s3fs tells of the folder itself when its first object comes while it looks
            files_only = {str(each)[root:]: info for each, info in found.items() if info.get("type") != "directory"}
            return {each: int(info.get("size") or 0) for each, info in files_only.items()}

    def folders(self) -> list[str]:
        """The names directly below the URL that have objects below them."""
        with self._asked("list", "") as (files, path):
            files.invalidate_cache()
            try:
                found = files.ls(path, detail=True)
            except FileNotFoundError:
                return []
            return [str(info["name"]).rstrip("/").rpartition("/")[2] for info in found if info["type"] == "directory"]

    def changed_at(self, name: str) -> datetime | None:
        """When an object was written; None when the store does not tell."""
        with self._asked("list", name) as (files, path):
            try:
                when: datetime = files.modified(path)
            except (NotImplementedError, FileNotFoundError):
                return None
            return when

    def delete(self, names: Iterable[str]) -> None:
        """Delete these objects; one that is not there is no error."""
        wanted = [self._path(name) for name in names]
        with self._asked("delete", "") as (files, _):
            try:
                if wanted:
                    files.rm(wanted)
            except FileNotFoundError:  # some stores tell, and stop there
                for path in wanted:
                    if files.exists(path):
                        files.rm_file(path)

    def _path(self, name: str) -> str:
        _, root, _ = self._open()
        return f"{root}/{name}" if name else root

    @contextmanager
    def _asked(self, what: str, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and a name's path in it; what it raises, as an error of the journal."""
        files, _, errors = self._open()
        try:
            yield files, self._path(name)
        except errors as error:
            said = str(error).strip().rstrip(".") or type(error).__name__
            place = f"{self.url}/{name}" if name else self.url
            raise JournalUnreachable(f"the journal's store cannot {what} {place}: {said}") from error

    def _open(self) -> tuple[Any, str, tuple[type[Exception], ...]]:
        if self._opened is None:
            scheme = self.url.partition("://")[0]
            extra = EXTRAS.get(scheme)
            try:
                files, root = fsspec.url_to_fs(self.url, use_listings_cache=False)
            except ImportError as error:
                instead = f"pip install 'batch-llm[{extra}]'" if extra else "install it"
                raise ConfigurationError(f"BATCH_LLM_JOURNAL={self.url}: {error}; {instead}") from error
            except ValueError as error:
                raise ConfigurationError(f"BATCH_LLM_JOURNAL={self.url}: {error}") from error
            foreign = [resolve_name(each) for each in FOREIGN_ERRORS.get(extra or "", ())]
            self._opened = files, str(root).rstrip("/"), (OSError, *foreign)
        return self._opened
