"""What a run leaves in the hands of its caller: counts, cost, and its rows as frames.

Belongs here: the record and how a notebook shows it. Not here: running (running.py), the output table (reading.py).
No text of a row is shown, only counted.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from batch_llm.engine.events import RunSummary
from batch_llm.engine.retry import RULES
from batch_llm.errors import ErrorClass
from batch_llm.watching.board import counted
from batch_llm.watching.words import duration, number, scrubbed, usd
from batch_llm.wiring import Store

if TYPE_CHECKING:
    import polars as pl

__all__ = ["RunResult"]

SAMPLE = "sample"
NEEDS_MENDING = (ErrorClass.AUTHENTICATION, ErrorClass.DAILY_QUOTA, ErrorClass.DEADLINE, ErrorClass.BUDGET)


@dataclass(frozen=True)
class RunResult:
    """A run as it ended; its rows are read from the warehouse when they are asked for.

    There is one row per row of the input, in the input's order: key, kept and answer columns, then the ``llm_*``
    columns. Rows that were not asked are ``pending``. ``batch_llm.output(job)`` is the output table instead, which may
    hold rows of earlier runs as well.
    """

    summary: RunSummary
    store: Store = field(repr=False, compare=False)

    @property
    def rows(self) -> Iterator[pa.RecordBatch]:
        """The rows as record batches, for results larger than memory; each access begins anew.

        Raises `OutputError` or `JournalError` when the run was forgotten meanwhile.
        """
        run_id = self.summary.run_id
        slices = len(self.store.runs.get(run_id).slice_rows)
        for slice_number in range(max(1, slices)):  # a slice that was published again lies behind the others
            yield from self.store.warehouse.rows(f"run:{run_id}", slice_number=slice_number)

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow Table."""
        return pa.Table.from_batches(self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame with Arrow's types, so that a missing number stays missing."""
        frame: pd.DataFrame = self.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars frame. Raises `ImportError` where polars is not installed."""
        try:
            import polars as pl
        except ImportError as error:
            raise ImportError("to_polars() needs polars: pip install 'batch-llm[polars]'") from error
        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  a table becomes a frame
        return frame

    def __len__(self) -> int:
        return self.summary.rows

    @property
    def run_id(self) -> str:
        """The run's name, as in `batch-llm status`."""
        return self.summary.run_id

    @property
    def ok(self) -> int:
        """Rows with an answer."""
        return self.summary.ok

    @property
    def failed(self) -> int:
        """Rows that failed."""
        return self.summary.failed

    @property
    def pending(self) -> int:
        """Rows that were not asked, or not to their end."""
        return self.summary.pending

    @property
    def cached(self) -> int:
        """Rows from earlier answers."""
        return self.summary.cached

    @property
    def cost_usd(self) -> Decimal | None:
        """US dollars; None when unknown."""
        return self.summary.cost_usd

    @property
    def failed_by_class(self) -> dict[str, int]:
        """Error class: rows that failed with it."""
        return self.summary.failed_by_class

    @property
    def stopped(self) -> str | None:
        """Why it stopped early (cancelled, budget, .., sample), and the same call goes on; None: it did not stop."""
        return self.summary.stopped

    @property
    def output(self) -> str:
        """The output table, or its path."""
        return self.summary.output

    def __repr__(self) -> str:
        now = self.summary
        counts = f"rows={now.rows:,}, ok={now.ok:,}, failed={now.failed:,}{counted(now.failed_by_class)}"
        facts = [counts, f"pending={now.pending:,}", f"cost={_cost(now)}", f"output={now.output!r}"]
        end = f"; {said}" if (said := _end(now)) else ""
        return scrubbed(f"<RunResult {now.run_id}: {', '.join(facts)}{end}>")

    def _repr_html_(self) -> str:
        """Counts, cost and failures as a small table."""
        now = self.summary
        lines: list[tuple[str, Any]] = [
            ("rows", f"{now.rows:,}: {now.ok:,} ok, {now.failed:,} failed, {now.pending:,} pending"),
            *(("failed", f"{name} {count:,}") for name, count in sorted(now.failed_by_class.items())),
            ("from earlier answers", f"{now.cached:,}"),
            ("tokens", f"{number(now.input_tokens)} in, {number(now.output_tokens)} out"),
            ("cost", _cost(now)),
            ("took", duration(now.wall_s)),
            ("output", now.output),
        ]
        if said := _end(now):
            lines.append(("", said))
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(str(text))}</td></tr>"
            for label, text in lines
        )
        return scrubbed(f"<b>{html.escape(now.run_id)}</b><table>{cells}</table>")


def _cost(summary: RunSummary) -> str:
    known = usd(summary.cost_usd)
    if summary.cost_usd is None or not summary.cost_unknown_rows:
        return known
    return f"{known} and {summary.cost_unknown_rows:,} rows of unknown cost"


def _how_it_goes_on(stopped: str) -> str:
    """The same call, or what must be done before."""
    return RULES[ErrorClass(stopped)].advice if stopped in NEEDS_MENDING else "the same call goes on"


def _end(summary: RunSummary) -> str:
    """What is left to do, in words; nothing when all is done."""
    said = []
    if summary.nothing_to_do:
        said.append("nothing to do: every row was answered before and nothing has changed")
    if summary.stopped == SAMPLE:
        said.append("a sample: the same call without limit goes on, what is answered is not paid again")
    elif summary.stopped is not None:
        said.append(f"stopped early ({summary.stopped}): {_how_it_goes_on(summary.stopped)}, nothing is paid twice")
    if summary.blocked is not None:
        said.append(f"not promoted: {summary.blocked}")
    return "; ".join(said)
