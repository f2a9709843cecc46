"""What an output must be to take a job's rows, and which row takes the place of which.

Belongs here: rules that are the same whatever the warehouse. Not here: looking at an output, writing it (each
warehouse's outputs.py and promotion.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from batch_llm.errors import OutputError
from batch_llm.warehouse.base import Mode
from batch_llm.warehouse.refs import LIVE_SUFFIX, is_file, listed

__all__ = [
    "GIVES_WAY",
    "IS_THE_SAME",
    "TELLING",
    "check_columns",
    "check_loadable",
    "check_names",
    "live_name_taken",
    "of_slice",
    "refuse_taken",
]

_VECTOR = re.compile(r"FLOAT\[[0-9]+\]")

# `llm_present` is the output's row, `llm_incoming` the run's, of the same key. A pending row never takes the place of
# an answered or failed one; append_missing leaves every answer alone, but lets one take the place of a failure. A job's
# columns may not begin with llm_ (job/rules.py): one called like the row, and with fields, would hide it.
_PENDING = "llm_present.llm_status = 'pending'"
GIVES_WAY: dict[Mode, str] = {
    "upsert": f"{_PENDING} OR llm_incoming.llm_status <> 'pending'",
    "replace": f"{_PENDING} OR llm_incoming.llm_status <> 'pending'",
    "append_missing": f"{_PENDING} OR (llm_present.llm_status = 'failed' AND llm_incoming.llm_status = 'ok')",
}
"""Mode: the condition, in any SQL, under which the output's row gives way to the run's."""

TELLING = ("llm_status", "llm_run_id", "llm_request_hash")
"""The columns by which it is told whether the output's row is the run's."""
IS_THE_SAME = " AND ".join(f"llm_present.{column} IS NOT DISTINCT FROM llm_incoming.{column}" for column in TELLING)


def of_slice(where: str | None, slice_number: int | None) -> str | None:
    """A condition, in any SQL, that holds for the rows of one slice only; None: for all."""
    if slice_number is None:
        return where
    own = f"llm_slice = {int(slice_number)}"
    return own if where is None else f"(\n{where}\n) AND {own}"


def check_names(table: str, schema: pa.Schema, key: Sequence[str]) -> None:
    """Raise `OutputError` for columns that would be there twice, or a key that would not."""
    lowered = [name.lower() for name in schema.names]
    twice = sorted({name for name in schema.names if lowered.count(name.lower()) > 1})
    if twice:
        raise OutputError(f"{table!r} would have columns twice (upper and lower case are one): {listed(twice)}")
    absent = [column for column in key if column not in schema.names]
    if absent:
        raise OutputError(f"output {table!r} lacks its key columns {listed(absent)}")


def check_columns(
    place: str,
    present: Mapping[str, str],
    wanted: Mapping[str, str],
    stored: tuple[str, ...] | None,
    key: tuple[str, ...],
) -> None:
    """Raise `OutputError` unless an output is ours, with the same key and types.

    ``present``, ``wanted``: column to type, in the warehouse's words. ``stored``: the key it remembers, if any.
    """
    by_lower = {name.lower(): kind for name, kind in present.items()}
    if "llm_request_hash" not in by_lower:
        raise OutputError(
            f"output {place!r} exists and was not made by batch_llm (it has no column llm_request_hash); "
            "give the output another name, or remove what is there"
        )
    absent = [column for column in key if column.lower() not in by_lower]
    if absent or (stored is not None and sorted(stored) != sorted(key)):
        known = f"its key is ({', '.join(stored)})" if stored else f"it has no column {listed(absent)}"
        raise OutputError(
            f"output {place!r}: the job's key is ({', '.join(key)}), but {known}; "
            "give the output another name, or remove what is there"
        )
    for column, kind in wanted.items():
        existing = by_lower.get(column.lower(), kind)
        if existing != kind:
            raise OutputError(
                f"output {place!r}: column {column!r} is {existing} there and would be {kind} by this job; "
                f"give the output another name, or {_other_way(existing, kind, is_key=column in key)}"
            )


def _other_way(existing: str, kind: str, *, is_key: bool) -> str:
    """What else helps where types differ: a key and two vectors of several sizes cannot be renamed."""
    if is_key:
        return f"give the input's key column the type {existing}"
    if _VECTOR.fullmatch(existing) and _VECTOR.fullmatch(kind):
        return "ask for vectors of the same size (params.dimensions)"
    return "rename the column in output.schema"


def check_loadable(table: str, schema: pa.Schema) -> None:
    """Raise `OutputError` unless rows with these columns, from outside, may become a table of this name."""
    if is_file(table):
        raise OutputError(f"{table!r} is a file; name a table of the warehouse (name or dataset.name)")
    if table.endswith(LIVE_SUFFIX):
        raise OutputError(f"table {table!r}: names that end with {LIVE_SUFFIX} are kept for views of what is done")
    check_names(table, schema, ())


def refuse_taken(table: str, kind: str, columns: Collection[str], *, replace: bool) -> None:
    """Raise `OutputError` unless rows from outside may take the place of what is there.

    ``kind``: what it is, in words; ``columns``: its own.
    """
    if kind != "table":
        raise OutputError(f"table {table!r}: there is a {kind} of this name; give the table another name")
    if "llm_request_hash" in {column.lower() for column in columns}:
        raise OutputError(
            f"table {table!r} is the output of a job: its answers were paid for and are not replaced; give the table "
            "another name, or drop the output first"
        )
    if not replace:
        raise OutputError(
            f"table {table!r} is there already; give another name, or ask to replace it (`--replace`; from Python "
            "`replace=True`)"
        )


def live_name_taken(table: str, kind: str, taken: str) -> OutputError:
    """What stands where an output's live view would be is not ours to replace. ``kind``: table, view .."""
    return OutputError(
        f"output {table!r}: the {kind} {taken} stands where the view of what is done so far would be made; rename it, "
        "or give the output another name"
    )
