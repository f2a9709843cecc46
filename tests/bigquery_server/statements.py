"""Statements of GoogleSQL: reading a text, which tables it names, its translation for DuckDB.

Belongs here: everything about one statement that does not change data. Not here: running it (querying.py), DML, DDL.
Source of the syntax: https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax (read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from tests.bigquery_server import information_schema
from tests.bigquery_server.catalog import DatasetRef, Table, TableRef
from tests.bigquery_server.errors import ApiError, invalid_query
from tests.bigquery_server.functions import rewritten
from tests.bigquery_server.parameters import Parameters
from tests.bigquery_server.permissions import need_all_rows, need_query
from tests.bigquery_server.schema import Schema, fields_of_duckdb, quoted
from tests.bigquery_server.state import State
from tests.bigquery_server.storage import Version, select_of

__all__ = ["Read", "Reading", "anonymous", "duckdb_errors", "name_columns", "parsed", "table_ref"]

MAX_VIEW_DEPTH = 16
MAX_PARTS = 32


@dataclass(frozen=True)
class Read:
    """A version of a table that a statement reads."""

    table: Table
    version: Version
    node: exp.Table  # where it stands in the statement
    view: exp.Expression | None  # the query of the view that reads it
    through: tuple[exp.Table, ...] = ()  # where the views stand that lead to it
    rewritten: bool = False  # all of it is read, as DML that updates or deletes does with its target


@dataclass
class Reading:
    """One query's surroundings, and what it was found to read."""

    state: State
    project: str
    location: str | None  # None: the first dataset's
    default_dataset: DatasetRef | None
    parameters: Parameters
    reads: list[Read] = field(default_factory=list)
    special: bool = False  # reads INFORMATION_SCHEMA or __TABLES__
    depth: int = 0
    view: exp.Expression | None = None  # whose query this is
    through: tuple[exp.Table, ...] = ()  # where it and the views around it stand

    def sql(self, statement: exp.Expression) -> str:
        """The statement for DuckDB, its tables replaced by what they hold."""
        return self.prepared(statement).sql("duckdb")

    def prepared(self, statement: exp.Expression, *, keep_target: bool = False) -> exp.Expression:
        """A copy with parameters, tables and functions replaced; of DML the target may be left as it is."""
        made = statement.copy()
        self.parameters.put_into(made)
        name_columns(made)
        for origin, node in zip(list(_tables(statement)), list(_tables(made)), strict=True):
            if not (keep_target and origin is statement.this):
                self._replace(node, origin)
        return rewritten(made, self.state.clock)

    def describe(self, sql: str) -> Schema:
        """The columns that a DuckDB query gives."""
        with duckdb_errors():
            names, types = self.state.storage.describe(sql)
        lower = [each.lower() for each in names]
        twice = next((each for each in lower if lower.count(each) > 1), None)
        if twice is not None:
            raise invalid_query(f"Duplicate column names in the result are not supported. Found duplicate(s): {twice}")
        return fields_of_duckdb(names, types)

    def find(self, ref: TableRef) -> Table:
        """A table of the query's location, or 404."""
        dataset = self.state.catalog.dataset(ref.parent)
        self.location = self.location or dataset.location
        if dataset.location.lower() != self.location.lower():
            raise ApiError("notFound", f"Not found: Dataset {ref.parent} was not found in location {self.location}")
        table = self.state.catalog.find(ref)
        if table is None:
            raise ApiError("notFound", f"Not found: Table {ref} was not found in location {self.location}")
        return table

    def moment_us(self, node: exp.Expression) -> int:
        """A constant TIMESTAMP, as microseconds since 1970."""
        made = exp.select(node.copy())
        self.parameters.put_into(made)
        with duckdb_errors():
            found = self.state.storage.run(f"SELECT epoch_us(({rewritten(made, self.state.clock).sql('duckdb')}))")
        if found[0][0] is None:
            raise invalid_query("FOR SYSTEM_TIME AS OF expression must not be NULL")
        return int(found[0][0])

    def _replace(self, node: exp.Table, origin: exp.Table) -> None:
        """Put what the table holds in the table's place, under the table's name."""
        select, name = self._content(node, origin)
        alias = node.alias or name
        replacement = exp.Subquery(
            this=_Verbatim(this=select), alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True))
        )
        for key in ("joins", "pivots", "laterals"):
            replacement.set(key, node.args.get(key))
        scope = node.find_ancestor(exp.Select)
        node.replace(replacement)
        if scope is not None:
            self._whole_rows(scope, alias, select)

    def _whole_rows(self, scope: exp.Select, alias: str, select: str) -> None:
        """A table's name stands for its row, also where a column is called the same; DuckDB prefers the column.

        Source: https://github.com/google/zetasql/tree/master/zetasql/analyzer/testdata, its tests of name scoping:
        "Range variables take precedence over columns with the same name" (read 2026-11-29). Not known here of
        subqueries and CTEs in FROM, and not inside a subquery.
        """
        meant = [each for each in _own_columns(scope) if not each.table and each.name.lower() == alias.lower()]
        names = self.state.storage.describe(select)[0] if meant else []
        if alias.lower() not in {each.lower() for each in names}:
            return
        table = quoted(alias)
        row = f"struct_pack({', '.join(f'{quoted(each)} := {table}.{quoted(each)}' for each in names)})"
        for each in meant:
            whole: exp.Expression = _Verbatim(this=row)
            each.replace(exp.alias_(whole, each.name, quoted=True) if each.parent is scope else whole)

    def _content(self, node: exp.Table, origin: exp.Table) -> tuple[str, str]:
        special = information_schema.view_of(node, self)
        if special is not None:
            self.special = True
            return special
        ref = table_ref(node, self)
        table = self.find(ref)
        if table.view is not None:
            return self._view(table, origin), ref.table
        version = table.now
        asked = node.args.get("version")
        if asked is not None:
            need_all_rows(self.state, ref, "Time travel")
            version = self.state.catalog.as_of(table, self.moment_us(asked.expression))
        need_query(self.state, ref, self.location, by_view=self.depth > 0)
        if len(version.parts) > MAX_PARTS:
            same = self.state.storage.compacted(version)
            self.state.catalog.rewrite(table, version, same)
            version = same
        self.reads.append(Read(table, version, origin, self.view, self.through))
        return select_of(version.parts, version.schema), ref.table

    def _view(self, table: Table, origin: exp.Table) -> str:
        if self.depth >= MAX_VIEW_DEPTH:
            raise invalid_query("Within a view, references to other views are nested too deeply (at most 16)")
        query = parsed(table.view or "")[0]
        inner = Reading(
            self.state,
            table.ref.project,
            self.location,
            None,
            Parameters(()),
            self.reads,
            depth=self.depth + 1,
            view=query,
            through=(*self.through, origin),
        )
        return inner.sql(query)


class _Verbatim(exp.Expression):
    """SQL for DuckDB that is ready."""


def _verbatim(generator: Any, node: exp.Expression) -> str:
    return str(node.this)


sqlglot.dialects.duckdb.DuckDB.Generator.TRANSFORMS[_Verbatim] = _verbatim


def parsed(text: str) -> list[exp.Expression]:
    """The statements of a text."""
    try:
        found = [each for each in sqlglot.parse(text, dialect="bigquery") if each is not None]
    except SqlglotError as error:
        first = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
        where = f" at [{first.get('line', 1)}:{first.get('col', 1)}]"
        raise invalid_query(f"Syntax error: {first.get('description', 'unreadable')}{where}") from error
    if not found:
        raise invalid_query("Syntax error: Unexpected end of statement")
    for each in found:
        if isinstance(each, exp.Command):
            raise invalid_query(f"Syntax error or unknown to this fake of BigQuery: {each.sql('bigquery')[:200]}")
    return found


def _tables(statement: exp.Expression) -> Iterator[exp.Table]:
    """The tables that are no CTE of the statement."""
    ctes = {each.alias.lower() for each in statement.find_all(exp.CTE)}
    for node in statement.find_all(exp.Table):
        named = isinstance(node.this, exp.Identifier)
        if named and not (not node.db and node.name.lower() in ctes):
            yield node


def _own_columns(scope: exp.Select) -> list[exp.Column]:
    """The columns that a SELECT itself names, not those of its subqueries."""
    return [each for each in scope.find_all(exp.Column) if each.find_ancestor(exp.Select) is scope]


def table_ref(node: exp.Table, reading: Reading) -> TableRef:
    """The table a name means."""
    parts = [part for each in node.parts for part in _split(each)]
    if len(parts) == 1 and reading.default_dataset is None:
        raise invalid_query(f'Table "{parts[0]}" must be qualified with a dataset (e.g. dataset.table).')
    if len(parts) == 1:
        default = reading.default_dataset
        assert default is not None
        return TableRef(default.project, default.dataset, parts[0])
    project = ".".join(parts[:-2]) or reading.project
    return TableRef(project, parts[-2], parts[-1])


def _split(part: Any) -> list[str]:
    return str(part.name).split(".")


def anonymous(node: exp.Expression) -> bool:
    """Whether a column of a SELECT has no name: it is an expression without an alias."""
    return not isinstance(node, exp.Alias | exp.Column | exp.Star | exp.Dot | exp.PropertyEQ)


def name_columns(statement: exp.Expression) -> None:
    """Columns without a name are f0_, f1_, ... in each SELECT."""
    for select in statement.find_all(exp.Select):
        unnamed = [each for each in select.expressions if anonymous(each)]
        for number, each in enumerate(unnamed):
            each.replace(exp.alias_(each.copy(), f"f{number}_"))


@contextmanager
def duckdb_errors() -> Iterator[None]:
    """What DuckDB says of a statement, said by BigQuery."""
    try:
        yield
    except duckdb.Error as error:
        raise invalid_query(said_of(error)) from error


def said_of(error: duckdb.Error) -> str:
    """BigQuery's words where code may look at them; DuckDB's own otherwise."""
    text = str(error)
    for mark, words in (("Referenced column ", "Unrecognized name: "), ("Referenced table ", "Unrecognized name: ")):
        if mark in text:
            return words + text.split(mark)[1].split('"')[1]
    return text.splitlines()[0]
