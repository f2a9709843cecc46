"""What the benchmarks' command lines have in common.

Belongs here: choosing cases by their names, keeping the figures. Not here: the options of one benchmark (its
``__main__.py``), what the figures say (its ``report.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol, TypeVar

__all__ = ["ENDED", "MISSED", "add_common", "chosen", "keep"]

MISSED, ENDED = 1, 143  # exit codes


class Named(Protocol):
    """A case of any benchmark."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...


AnyCase = TypeVar("AnyCase", bound=Named)


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options that every benchmark has."""
    parser.add_argument("cases", nargs="*", metavar="CASE", help="name, beginning of a name or pattern; all by default")
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    parser.add_argument("--list", action="store_true", help="name the cases and end")


def chosen(cases: Sequence[AnyCase], names: Sequence[str]) -> list[AnyCase]:
    """The cases so named, all without names; ends the program when there is none."""
    exact = {case.name for case in cases} & set(names)
    found = [
        case
        for case in cases
        if not names
        or any(case.name == name or (name not in exact and fnmatch(case.name, f"{name}*")) for name in names)
    ]
    if not found:
        sys.exit(f"no case is called {' or '.join(names)}; --list names them")
    return found


def keep(options: argparse.Namespace, figures: Any, table: str) -> None:
    """Write the figures so far where ``--json`` and ``--markdown`` say."""
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(table, encoding="utf-8")
