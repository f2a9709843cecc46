"""A row's images: where they may come from, what is refused and why."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.engine.images import ImageColumns, are_taken, check_image_columns, names_images
from batch_llm.errors import ErrorClass, InputError
from batch_llm.job.template import RenderError, TooLargeError
from batch_llm.providers.images import Image
from batch_llm.providers.openai.images import OPENAI_IMAGES
from tests.pictures import GIF_1X1, png

RULES = replace(OPENAI_IMAGES, most_bytes=2_000, most_images=2)


def read(folder: Path, *values: Any, rules: Any = RULES) -> tuple[Image, ...]:
    names = [f"c{number}" for number in range(len(values))]
    return ImageColumns(names, folder, rules).read(dict(zip(names, values, strict=True)))


def refused(folder: Path, value: Any, rules: Any = RULES) -> str:
    with pytest.raises(RenderError) as caught:
        read(folder, value, rules=rules)
    said = str(caught.value)
    assert "'c0'" in said and not (isinstance(value, str) and value and value in said)
    return said


def test_bytes_and_files_are_told_apart_by_content_alone(tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "a.jpg").write_bytes(png(30, 20))
    (given,) = read(tmp_path, png(30, 20))
    for path in ("charts/a.jpg", "./charts/../charts/a.jpg", str(tmp_path / "charts" / "a.jpg")):
        assert read(tmp_path, path) == (given,)
    assert (given.mime_type, given.width, given.height, given.url) == ("image/png", 30, 20, None)
    assert read(tmp_path, png(30, 20, grey=1))[0].digest != given.digest
    assert repr(given.data) not in repr(given)


def test_an_address_is_sent_as_it_is_and_a_null_is_no_image(tmp_path: Path) -> None:
    address = "HTTPS://example.org/a.png?x=1"
    assert read(tmp_path, None, address) == (Image(f"url:{address}", mime_type="image/png", url=address),)
    assert read(tmp_path, None, None) == ()


TYPED = replace(RULES, named_types=True, most_images=9, most_addresses=1, schemes=frozenset({"https", "gs"}))


@pytest.mark.parametrize(
    ("address", "mime_type"),
    [
        ("https://host/a.png", "image/png"),
        ("https://host/b/A.JPG?signed=1#x", "image/jpeg"),
        ("https://host/a.b.jpeg", "image/jpeg"),
        ("gs://bucket/a.webp", "image/webp"),
    ],
)
def test_where_the_type_is_wanted_the_end_of_an_address_tells_it(tmp_path: Path, address: str, mime_type: str) -> None:
    (found,) = read(tmp_path, address, rules=TYPED)
    assert (found.mime_type, found.url, found.data) == (mime_type, address, b"")


@pytest.mark.parametrize("address", ["https://host/a", "https://host/a.txt", "https://host/a?x=b.png", "gs://b/png"])
def test_an_address_that_does_not_tell_the_type_is_refused_before_any_call(tmp_path: Path, address: str) -> None:
    assert "does not end in .png, .jpg, .jpeg, .webp" in refused(tmp_path, address, rules=TYPED)


def test_more_addresses_than_the_provider_fetches_are_too_many(tmp_path: Path) -> None:
    assert len(read(tmp_path, png(1, 1), "https://host/a.png", rules=TYPED)) == 2
    with pytest.raises(TooLargeError, match="2 images behind addresses; the provider takes 1"):
        read(tmp_path, "https://host/a.png", "https://host/b.png", rules=TYPED)


def test_images_that_another_provider_would_not_take_are_told_from_those_it_takes(tmp_path: Path) -> None:
    """By its own rules, each of them."""
    images = read(tmp_path, png(30, 20), "https://example.org/a.png", rules=OPENAI_IMAGES)
    size_bytes = len(png(30, 20))
    assert are_taken(images, OPENAI_IMAGES) and are_taken((), None) and not are_taken(images, None)
    for changes in (
        {"most_images": 1},
        {"most_bytes": size_bytes - 1},
        {"most_request_bytes": size_bytes - 1},
        {"most_side": 29},
        {"mime_types": frozenset({"image/jpeg"})},
        {"schemes": frozenset({"gs"})},
        {"most_addresses": 0},
        {"named_types": True, "mime_types": frozenset({"image/jpeg"})},
    ):
        assert not are_taken(images, replace(OPENAI_IMAGES, **changes)), changes
    assert are_taken(images, replace(OPENAI_IMAGES, most_side=30, most_bytes=size_bytes, named_types=True))
    nameless = read(tmp_path, "https://example.org/a", rules=OPENAI_IMAGES)
    assert are_taken(nameless, OPENAI_IMAGES)
    assert not are_taken(nameless, replace(OPENAI_IMAGES, named_types=True))


def test_a_column_that_can_hold_none_is_refused_and_one_of_names_is_known() -> None:
    schema = pa.schema([("data", pa.binary()), ("path", pa.string()), ("number", pa.int64()), ("nothing", pa.null())])
    check_image_columns(["data", "path", "nothing"], schema)
    assert names_images(["data", "path"], schema) and not names_images(["data"], schema)
    with pytest.raises(InputError, match="the column 'number' is int64; an image is bytes, or text"):
        check_image_columns(["data", "number"], schema)


def test_images_keep_the_order_of_the_columns(tmp_path: Path) -> None:
    assert [found.mime_type for found in read(tmp_path, GIF_1X1, png(1, 1))] == ["image/gif", "image/png"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"%PDF-1.7", "no image that can be read"),
        (b"", "no image that can be read"),
        ("", "out of the job file's folder|cannot be read"),
        ("missing.png", "cannot be read (No such file or directory)"),
        ("../secret.png", "out of the job file's folder"),
        ("/etc/passwd", "out of the job file's folder"),
        ("folder", "cannot be read (Is a directory)|something that is no file"),
        ("notes.txt", "no image that can be read"),
        ("a\0b", "no file can be called"),
        ("\ud800", "no file can be called"),
        ("gs://bucket/a.png", "does not fetch from (it takes: http://, https://)"),
        ("file:///etc/passwd", "does not fetch from"),
        ("data:image/png;base64,AAAA", "give the bytes themselves"),
        ("https://example.org/a b.png", "must be %-encoded"),
        ("https://" + "a" * 9_000, "more than 8,192 characters"),
        (7, "neither bytes nor text"),
    ],
)
def test_what_is_no_image_is_refused_and_says_why(tmp_path: Path, value: Any, why: str) -> None:
    folder = tmp_path / "job"
    (folder / "folder").mkdir(parents=True)
    (folder / "notes.txt").write_text("notes")
    (tmp_path / "secret.png").write_bytes(png(1, 1))
    said = refused(folder, value)
    assert any(each in said for each in why.split("|")), said


def test_a_link_in_the_folder_is_the_users_own_word(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(png(1, 1))
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "charts").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "job", "charts/a.png")[0].width == 1


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is the path of something that is no file" in refused(tmp_path, "pipe")


@pytest.mark.parametrize("by_path", [False, True])
def test_what_is_too_large_has_its_own_class(tmp_path: Path, by_path: bool) -> None:
    (tmp_path / "a.png").write_bytes(png(1, 1) + b"\0" * 2_000)
    with pytest.raises(TooLargeError, match=r"bytes; at most 2,000 can be sent") as caught:
        read(tmp_path, "a.png" if by_path else (tmp_path / "a.png").read_bytes())
    assert caught.value.error_class is ErrorClass.TOO_LARGE
    assert RenderError.error_class is ErrorClass.TEMPLATE


def test_too_many_pixels_are_too_large_where_the_provider_says_so(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="has 9 x 11 pixels; the provider takes 10 at most"):
        read(tmp_path, png(9, 11), rules=replace(RULES, most_side=10))
    assert read(tmp_path, png(9, 10), rules=replace(RULES, most_side=10))


def test_what_this_provider_does_not_take_is_named(tmp_path: Path) -> None:
    assert "image/gif, which the provider does not take (it takes: png)" in refused(
        tmp_path, GIF_1X1, replace(RULES, mime_types=frozenset({"image/png"}))
    )
    with pytest.raises(TooLargeError, match="has 3 images; the provider takes 2"):
        read(tmp_path, GIF_1X1, GIF_1X1, GIF_1X1)
    with pytest.raises(TooLargeError, match="have 84 bytes; at most 83 can be sent"):
        read(tmp_path, GIF_1X1, GIF_1X1, rules=replace(RULES, most_request_bytes=83))
