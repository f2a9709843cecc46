"""Every type of BigQuery in and out of the fake, exactly, by the real client."""

from __future__ import annotations

import base64
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from tests.contract.bigquery_lab import BigQueryLab, refused

MICROSECOND = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
EARLY = datetime(1, 1, 1, tzinfo=UTC)
WIDE = Decimal("578960446186580977117854925043439539266.34992332820282019728792003956564819967")
NARROW = Decimal("0.00000000000000000000000000000000000001")
CASES: list[tuple[str, Any, Any]] = [  # type, value in Python, the same in JSON
    ("INT64", 2**63 - 1, str(2**63 - 1)),
    ("INT64", -(2**63), str(-(2**63))),
    ("FLOAT64", 0.1, 0.1),
    ("FLOAT64", 5e-324, 5e-324),
    ("FLOAT64", 1.7976931348623157e308, 1.7976931348623157e308),
    ("FLOAT64", math.inf, "Infinity"),
    ("FLOAT64", -math.inf, "-Infinity"),
    ("NUMERIC", Decimal("99999999999999999999999999999.999999999"), "99999999999999999999999999999.999999999"),
    ("NUMERIC", Decimal("-0.000000001"), "-0.000000001"),
    ("BIGNUMERIC", WIDE, str(WIDE)),
    ("BIGNUMERIC", NARROW, f"{NARROW:f}"),
    ("BOOL", True, True),
    ("STRING", "ü\u2028\n\"'\\ \U0001f600", "ü\u2028\n\"'\\ \U0001f600"),
    ("STRING", "", ""),
    ("BYTES", bytes(range(256)), None),
    ("DATE", date(1, 1, 1), "0001-01-01"),
    ("DATE", date(9999, 12, 31), "9999-12-31"),
    ("TIME", time(23, 59, 59, 999999), "23:59:59.999999"),
    ("DATETIME", datetime(9999, 12, 31, 23, 59, 59, 999999), "9999-12-31T23:59:59.999999"),  # noqa: DTZ001
    ("TIMESTAMP", MICROSECOND, "9999-12-31 23:59:59.999999 UTC"),
    ("TIMESTAMP", EARLY, "0001-01-01T00:00:00Z"),
    ("TIMESTAMP", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+01:00"),
    ("JSON", {"a": [1, None, "x"]}, {"a": [1, None, "x"]}),
    ("GEOGRAPHY", "POINT(1 2)", "POINT(1 2)"),
]
IDS = [f"{type_} {number}" for number, (type_, _, _) in enumerate(CASES)]


def in_json(type_: str, value: Any, text: Any) -> Any:
    return base64.b64encode(value).decode() if type_ == "BYTES" else text


@pytest.mark.parametrize(("type_", "value", "text"), CASES, ids=IDS)
def test_a_value_by_json_and_by_streaming(bq: BigQueryLab, type_: str, value: Any, text: Any) -> None:
    bq.create("t", f"value {type_}", f"many {type_} REPEATED")
    row = {"value": in_json(type_, value, text), "many": [in_json(type_, value, text)] * 2}
    bq.load("t", [row, {"value": None}])
    assert bq.client.insert_rows_json(bq.ref("t"), [row]) == []
    assert bq.rows("t") == sorted([(value, [value, value]), (value, [value, value]), (None, [])], key=repr)


@pytest.mark.parametrize(("type_", "value", "text"), CASES, ids=IDS)
def test_a_value_through_queries(bq: BigQueryLab, type_: str, value: Any, text: Any) -> None:
    """From a table into a table, by a parameter, in an array, in a struct; and its type with it."""
    bq.create("t", f"value {type_}")
    bq.load("t", [{"value": in_json(type_, value, text)}])
    bq.query("CREATE TABLE d.u AS SELECT value, [value] AS many, STRUCT(value AS inner_value) AS rec FROM d.t")
    assert bq.rows("u") == [(value, [value], {"inner_value": value})]
    schema = bq.client.get_table(bq.ref("u")).schema
    legacy = bq.client.get_table(bq.ref("t")).schema[0].field_type
    assert [schema[0].field_type, schema[1].field_type, schema[2].fields[0].field_type] == [legacy] * 3
    if type_ not in ("JSON", "GEOGRAPHY"):
        parameters = [
            bigquery.ScalarQueryParameter("one", type_, value),
            bigquery.ArrayQueryParameter("many", type_, [value, value]),
            bigquery.ScalarQueryParameter("none", type_, None),
        ]
        asked = bq.ask("SELECT @one, @many, @none, @one = value FROM d.t", query_parameters=parameters)
        assert asked == [(value, [value, value], None, True)]


def test_not_a_number(bq: BigQueryLab) -> None:
    bq.create("t", "value FLOAT64")
    bq.load("t", [{"value": "NaN"}])
    bq.load("t", pa.table({"value": [math.nan]}))
    values = [value for (value,) in bq.ask("SELECT value FROM d.t")]
    assert len(values) == 2 and all(math.isnan(value) for value in values)


def test_values_by_parquet(bq: BigQueryLab) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    columns = {
        "i": pa.array([2**63 - 1, None], pa.int64()),
        "f": pa.array([math.inf, None], pa.float64()),
        "n": pa.array([Decimal("1.5"), None], pa.decimal128(38, 9)),
        "b": pa.array([Decimal(str(WIDE)[:-1]), None], pa.decimal256(76, 37)),
        "o": pa.array([True, None]),
        "s": pa.array(["ü", None]),
        "y": pa.array([b"\x00\xff", None], pa.binary()),
        "d": pa.array([date(1, 1, 1), None]),
        "t": pa.array([time(23, 59, 59, 999999), None], pa.time64("us")),
        "p": pa.array([when.replace(tzinfo=None), None], pa.timestamp("us")),
        "z": pa.array([when, None], pa.timestamp("us", "UTC")),
        "j": pa.array(['{"a": 1}', None]),
        "g": pa.array(["POINT(1 2)", None]),
        "r": pa.array([{"x": 1, "y": "a"}, None], pa.struct([("x", pa.int64()), ("y", pa.string())])),
    }
    types = dict(zip("ifnbosydtpzjg", [
        "INT64", "FLOAT64", "NUMERIC", "BIGNUMERIC", "BOOL", "STRING", "BYTES", "DATE", "TIME", "DATETIME", "TIMESTAMP",
        "JSON", "GEOGRAPHY",
    ], strict=True))  # fmt: skip
    schema = [bigquery.SchemaField(name, type_) for name, type_ in types.items()]
    inner = [bigquery.SchemaField("x", "INT64"), bigquery.SchemaField("y", "STRING")]
    schema.append(bigquery.SchemaField("r", "RECORD", fields=inner))
    bq.load("t", pa.table(columns), schema=schema)
    first, second = bq.ask("SELECT * FROM d.t ORDER BY i DESC")
    expected = {name: each[0].as_py() for name, each in columns.items()} | {"j": {"a": 1}}
    assert dict(zip(columns, first, strict=True)) == expected
    assert second == (None,) * len(columns)


def test_geography_comes_from_text_and_goes_back(bq: BigQueryLab) -> None:
    """Only the text: this fake knows no geometry."""
    bq.query("CREATE TABLE d.t AS SELECT ST_GEOGFROMTEXT('POINT(1 2)') AS g UNION ALL SELECT ST_GEOGFROMTEXT(NULL)")
    assert bq.client.get_table(bq.ref("t")).schema[0].field_type == "GEOGRAPHY"
    assert bq.ask("SELECT ST_ASTEXT(g) FROM d.t ORDER BY 1") == [(None,), ("POINT(1 2)",)]


def test_nested_records(bq: BigQueryLab) -> None:
    inner = [bigquery.SchemaField("at", "TIMESTAMP"), bigquery.SchemaField("many", "NUMERIC", "REPEATED")]
    table = bigquery.Table(bq.ref("t"), [bigquery.SchemaField("rows", "RECORD", "REPEATED", fields=inner)])
    bq.client.create_table(table)
    bq.load("t", [{"rows": [{"at": "2026-01-01 00:00:00", "many": ["1.5", 2]}, {}]}, {}])
    when = datetime(2026, 1, 1, tzinfo=UTC)
    full = [{"at": when, "many": [Decimal("1.5"), Decimal(2)]}, {"at": None, "many": []}]
    assert bq.rows("t") == sorted([(full,), ([],)], key=repr)
    with refused(BadRequest, "invalid", "No such field: rows.none"):
        bq.load("t", [{"rows": [{"none": 1}]}])


def test_a_null_array_is_an_empty_one(bq: BigQueryLab) -> None:
    """Source (read 2026-11-28):
    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#array_nulls
    """
    bq.query("CREATE TABLE d.t AS SELECT CAST(NULL AS ARRAY<INT64>) AS many")
    assert bq.rows("t") == [([],)]


@pytest.mark.parametrize("text", ["1e40", "0.0000000001"])
def test_a_numeric_has_29_digits_before_the_point_and_9_behind(bq: BigQueryLab, text: str) -> None:
    """More before is an error; more behind is rounded, half away from zero.

    Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types (read 2026-11-28).
    """
    bq.create("t", "n NUMERIC")
    if text == "1e40":
        with refused(BadRequest, "invalid", "Could not convert value to numeric"):
            bq.load("t", [{"n": text}])
    else:
        bq.load("t", [{"n": text}, {"n": "0.0000000005"}])
        assert bq.rows("t") == [(Decimal(0),), (Decimal("1E-9"),)]


def test_literals_have_googlesqls_types(bq: BigQueryLab) -> None:
    job = bq.query(
        "SELECT 1, 1.5, NUMERIC '1.5', BIGNUMERIC '1.5', 'a', b'a', TRUE, NULL, DATE '2026-01-01', "
        "TIMESTAMP '2026-01-01 00:00:00+00', DATETIME '2026-01-01 00:00:00', TIME '00:00:00', JSON '{}', [1], "
        "STRUCT(1 AS a), SUM(1), COUNT(*), 7 / 2, DIV(7, 2)"
    )
    schema = job.result().schema
    assert [each.name for each in schema] == [f"f{place}_" for place in range(19)]
    assert " ".join(each.field_type for each in schema) == (
        "INTEGER FLOAT NUMERIC BIGNUMERIC STRING BYTES BOOLEAN INTEGER DATE TIMESTAMP DATETIME TIME JSON INTEGER "
        "RECORD INTEGER INTEGER FLOAT INTEGER"
    )
    assert [place for place, each in enumerate(schema) if each.mode == "REPEATED"] == [13]


def test_timestamps_are_microseconds_when_asked_for_so(bq: BigQueryLab) -> None:
    """The client asks for useInt64Timestamp; without it seconds come as a float, and microseconds of 9999 are lost."""
    bq.create("t", "at TIMESTAMP")
    bq.load("t", [{"at": "9999-12-31 23:59:59.999999"}])
    path = f"/projects/{bq.server.project}/datasets/d/tables/t/data"
    plain = bq.client._connection.api_request("GET", path)
    asked = bq.client._connection.api_request("GET", path, query_params={"formatOptions.useInt64Timestamp": True})
    assert float(plain["rows"][0]["f"][0]["v"]) == pytest.approx(253402300799.999999)
    assert asked["rows"][0]["f"][0]["v"] == "253402300799999999"
