"""JSON lines as they are found: newlines of an old kind, and which line is wrong.

Belongs here: bytes of a JSONL file. Not here: columns and types (sql/scan_json.sql). DuckDB counts lines from wherever
its reader began anew (measured, 2.0.0: an error in line 1 is told as one in line 2), so the line is looked for here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

__all__ = ["first_odd_line", "with_line_feeds"]

_CHUNK_BYTES = 1 << 20
_RETURNS = re.compile(rb"\r\n?")


def with_line_feeds(path: Path, copy: Path) -> bool:
    """Copy a file with every line ended by a line feed (JSON has no other raw newline); whether that changed it."""
    changed = False
    with path.open("rb") as source, copy.open("wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            while chunk.endswith(b"\r") and (more := source.read(1)):  # its line feed may be in the next chunk
                chunk += more
            changed = changed or b"\r" in chunk
            target.write(_RETURNS.sub(b"\n", chunk))
    return changed


def first_odd_line(path: Path) -> str:
    """What is wrong with a file that cannot be parsed, in words; "" where nothing is found."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and (odd := _odd(line)):
                return f"line {number} is no whole JSON object: {odd}"
    return ""


def _odd(line: bytes) -> str:
    try:
        value = json.loads(line.decode("utf-8-sig"))
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 text (at its byte {error.start + 1:,})"
    except UnicodeEncodeError:
        return "it holds half of a character (a lone \\ud800 to \\udfff)"
    except json.JSONDecodeError as error:
        return f"{error.msg} (at its character {error.pos + 1:,})"
    except RecursionError:
        return "it is nested too deeply"
    return "" if isinstance(value, dict) else f"it has no named fields (Python calls it {type(value).__name__})"
