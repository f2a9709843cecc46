"""The SQL files.

Belongs here: loading a statement and putting quoted names into it. Not here: the statements (sql/*.sql), one file per
operation; values never go into the text, they are parameters.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

__all__ = ["enclosed", "statement"]


def statement(name: str, **parts: str) -> str:
    """The statement ``sql/<name>.sql`` with its ``{parts}``: quoted names, or expressions made of them."""
    return _text(name).format_map(parts)


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")


def enclosed(where: str | None) -> str:
    """A user's filter as one boolean expression; whether it is one, BigQuery says (`Queries.check_where`)."""
    return "TRUE" if where is None else f"(\n{where}\n)"  # on its own lines: a comment at its end closes nothing
