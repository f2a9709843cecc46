"""Drafts: what plans have frozen, kept so that a run (or the next plan) of the same need not be billed again.

Belongs here: making a draft, copying it into the table of a plan or run, dropping. Not here: the statements
(table_freeze.py).

A draft is named by what decides its rows and slices, so who wants the same finds it, on any machine. It is made by the
statement that a run would use, in a chain of job ids of its own; it counts when its key was checked, which its
description says from then on: one that a killed plan left unchecked is checked by the next plan, and no run takes it.
Only rows that every account sees alike are kept. BigQuery drops a draft, by its own clock: after a day when it is all
of a table, whose version says what is in it; after some minutes when there is a filter, which may look at the clock
(``CURRENT_DATE()``), and nobody wants the rows of an older moment than the one when he looked. Copying is free.
Source: https://cloud.google.com/bigquery/pricing#free (copying a table; read 2026-11-29)
"""

from __future__ import annotations

from datetime import datetime

from google.cloud import bigquery

from batch_llm.errors import InputError, WarehouseError
from batch_llm.warehouse.base import FrozenInput
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.frozen_table import Manifest
from batch_llm.warehouse.bigquery.jobs import JobFailed, Jobs
from batch_llm.warehouse.bigquery.marks import mark
from batch_llm.warehouse.bigquery.names import TableName
from batch_llm.warehouse.bigquery.run_tables import expires_at
from batch_llm.warehouse.bigquery.table_freeze import Making, TableFreeze

__all__ = ["PLAN_DAYS", "complete", "drafted", "drop_drafts", "frozen_in", "kept_minutes", "taken_over"]

PLAN_DAYS = 1.0  # what a plan leaves when it is killed, and a draft of a whole table
UNSETTLED_DAYS = 15 / (24 * 60)  # to read a plan and say yes; the run then has the rows that the plan has shown
_GONE = "notFound"


def frozen_in(connection: Connection, work: TableName, run_id: str) -> FrozenInput | None:
    """The frozen input of a run in its table; None when there is none yet, or not all of it."""
    table = connection.table(work)
    manifest = Manifest.read(table)
    if table is None or manifest is None or manifest.run_id != run_id:  # a copy may bring its source's description
        return None
    return manifest.frozen(table.num_rows)


def complete(connection: Connection, work: TableName, manifest: Manifest, expires: datetime | None = None) -> None:
    """Only a table with a manifest is a frozen input. ``expires``: None leaves it as it is."""
    while True:
        table = connection.table(work)
        if table is None:
            raise WarehouseError(f"BigQuery table {work.path} is gone again; was the run forgotten meanwhile?")
        table.description = manifest.text()
        table.expires = expires or table.expires
        if connection.change(table, ["description"] if expires is None else ["description", "expires"]):
            return


def kept_minutes(freeze: TableFreeze) -> float | None:
    """How long a draft is kept for whoever freezes the same; None: none is made."""
    return _kept_days(freeze) * 24 * 60 if freeze.can_be_shared else None


def _kept_days(freeze: TableFreeze) -> float:
    return PLAN_DAYS if freeze.is_settled else UNSETTLED_DAYS


def taken_over(jobs: Jobs, freeze: TableFreeze) -> FrozenInput | None:
    """The run's input out of a plan's draft, which keeps it; None when there is none that counts."""
    draft = jobs.connection.table(_name(jobs.connection, freeze))
    if draft is None or Manifest.read(draft) is None:
        return None
    try:
        return _copied(jobs, freeze, draft, jobs.connection.options.work_days)
    except JobFailed as error:
        if error.failure.reason != _GONE:
            raise
        jobs.connection.drop(jobs.connection.dataset.work(freeze.spec.run_id))  # the draft's time was up just now
        return None


def drafted(jobs: Jobs, freeze: TableFreeze) -> FrozenInput:
    """The plan's input out of a draft that was there, or is made and checked now. Raises `InputError`."""
    draft = _draft(jobs, freeze)
    return _copied(jobs, freeze, draft, PLAN_DAYS)


def _draft(jobs: Jobs, freeze: TableFreeze) -> bigquery.Table:
    connection, name = jobs.connection, _name(jobs.connection, freeze)
    if connection.table(name) is None:
        days = _kept_days(freeze)
        freeze.make(jobs, Making(name, mark(draft=freeze.spec.source), days, name.table))
    draft = _there(connection, name)
    if Manifest.read(draft) is None:
        try:
            freeze.check(jobs, name)
        except InputError:
            connection.drop(name)  # a refused input leaves nothing behind
            raise
        complete(connection, name, freeze.manifest)
    return draft


def _there(connection: Connection, name: TableName) -> bigquery.Table:
    found = connection.table(name)
    if found is None:
        raise WarehouseError(f"BigQuery table {name.path} is gone again; was the job forgotten meanwhile? Plan again")
    return found


def _copied(jobs: Jobs, freeze: TableFreeze, draft: bigquery.Table, days: float) -> FrozenInput:
    """The draft's rows in the table of ``freeze``'s run; made before, so that it expires whatever is killed."""
    connection, run_id = jobs.connection, freeze.spec.run_id
    work, expires = connection.dataset.work(run_id), expires_at(days)
    table = bigquery.Table(work.path, schema=draft.schema)
    table.range_partitioning = draft.range_partitioning
    table.expires = expires
    connection.make(table)
    jobs.copy("freeze", f"{run_id}-freeze", _name(connection, freeze).path, work.path)
    complete(connection, work, freeze.manifest, expires)
    frozen = frozen_in(connection, work, run_id)
    if frozen is None:
        raise WarehouseError(f"BigQuery table {work.path} is gone again; was the run forgotten meanwhile?")
    return frozen


def _name(connection: Connection, freeze: TableFreeze) -> TableName:
    return connection.dataset.draft(freeze.source.name, freeze.digest)


def drop_drafts(connection: Connection, source: TableName) -> None:
    """Drop what plans over an input have left."""
    for name in connection.own_names(connection.dataset.draft_prefix(source)):
        connection.drop(name)
