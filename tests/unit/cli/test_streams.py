"""What is written to nobody changes nothing; a result that cannot be stored is told once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import TextIOWrapper

import pytest

from batch_llm.cli.streams import lasting

MANY = "x" * 100_000  # more than a pipe or a buffer holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIOWrapper]]:
    """(reader, writer); the test closes the reader."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as stream:
        yield reader, stream


@pytest.mark.parametrize("is_result", [True, False])
def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, TextIOWrapper], is_result: bool) -> None:
    reader, writer = pipe
    stream = lasting(writer, is_result=is_result)
    print("first é", file=stream, flush=True)
    assert os.read(reader, 100) == b"first ?\n"
    os.close(reader)
    for _ in range(2):
        print(MANY, file=stream, flush=True)
    assert os.readlink(f"/proc/self/fd/{stream.fileno()}") == os.devnull


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full disk to write to")
def test_on_a_full_disk_a_result_is_an_error_and_a_remark_is_left_out() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        remarks = lasting(full, is_result=False)
        print(MANY, file=remarks, flush=True)
        assert os.readlink(f"/proc/self/fd/{remarks.fileno()}") == "/dev/full"  # it may have room again
        results = lasting(full, is_result=True)
        with pytest.raises(OSError, match="No space left"):
            print(MANY, file=results, flush=True)
        results.flush()  # told once: not at the interpreter's end again


@pytest.mark.parametrize("options", [(), ("-u",)])
@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&-"])
def test_a_command_whose_streams_are_closed_ends_as_ever(options: tuple[str, ...], closed: str) -> None:
    command = f'exec "$0" {" ".join(options)} -m batch_llm.cli no-such-command {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ("no-such-command" in done.stderr) is ("2>" not in closed)
    assert "Traceback" not in done.stderr


def test_a_result_whose_reader_is_gone_leaves_the_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "batch_llm.cli", "schema", "job"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
