"""The SQL files, and the conditions users write.

Belongs here: loading a statement and putting quoted names into it. Not here: the statements (sql/*.sql), one file
per operation; values never go into the text, they are parameters.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import duckdb

from batch_llm.errors import ConfigurationError

__all__ = ["condition", "reason", "statement"]

_LONGEST = 500  # characters of a DuckDB message that are shown
_LONGEST_WITH_DATA = 100  # .. that quotes a row's value


def statement(name: str, **parts: str) -> str:
    """The statement ``sql/<name>.sql`` with its ``{parts}``: quoted names, or expressions made of them."""
    return _text(name).format_map(parts)


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")


def condition(where: str | None, refuse: type[ConfigurationError], field: str) -> str:
    """A user's filter as one boolean expression; text that is more or less than that raises ``refuse``."""
    if where is None:
        return "TRUE"
    enclosed = f"(\n{where}\n)"  # on its own lines, so that a comment at its end closes nothing
    try:
        # inside brackets "x GROUP BY y" is refused, without them "x) OR (y" is
        statements = [len(duckdb.extract_statements(f"SELECT 1 WHERE {text}")) for text in (where, enclosed)]
    except duckdb.Error as error:
        raise refuse(f"{field}: {where!r} is not valid SQL: {reason(error)}") from error
    if not where.strip() or statements != [1, 1]:
        raise refuse(f"{field}: {where!r} must be one condition, as after WHERE")
    return enclosed


def reason(error: Exception) -> str:
    """DuckDB's message in one short line, without its drawings of the statement and without a row's long text."""
    line = " ".join(str(error).split("\n\n")[0].split())
    longest = _LONGEST_WITH_DATA if line.startswith("Conversion Error") else _LONGEST
    return line if len(line) <= longest else line[:longest] + " [..]"
