"""Values on the wire: what tabledata.list and getQueryResults show, what a JSON row may hold.

Belongs here: one value at a time, exactly. Not here: tables, pages, whole rows' rules.
Source: https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json and observed in google-cloud-bigquery
3.47 `_helpers.py`, which reads what `shown` writes (read 2026-11-28).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

import orjson

from tests.bigquery_server.errors import invalid
from tests.bigquery_server.schema import Field, Schema

__all__ = ["bignumeric_text", "parsed_row", "shower", "stored"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
INT64 = range(-(2**63), 2**63)
NUMERIC_DIGITS = {"NUMERIC": (29, 9), "BIGNUMERIC": (39, 38)}  # before and after the point
BIGNUMERIC_LIMIT = Decimal("578960446186580977117854925043439539266.34992332820282019728792003956564819967")


# ---- out


def shower(field: Field, *, int64_timestamps: bool) -> Callable[[Any], Any]:
    """A function from a value (as Arrow gives it to Python) to what stands at ``v``."""
    one = _shower_of_one(field.element, int64_timestamps=int64_timestamps)
    if field.mode == "REPEATED":
        return lambda values: [{"v": one(value)} for value in values or ()]
    return lambda value: None if value is None else one(value)


def _shower_of_one(field: Field, *, int64_timestamps: bool) -> Callable[[Any], Any]:
    if field.type == "RECORD":
        inner = [(each.name, shower(each, int64_timestamps=int64_timestamps)) for each in field.fields]
        return lambda value: {"f": [{"v": show(value[name])} for name, show in inner]}
    if field.type == "TIMESTAMP":
        return _timestamp_us if int64_timestamps else _timestamp_s
    return SHOWN[field.type]


def _timestamp_us(value: datetime) -> str:
    return str((value - EPOCH) // MICROSECOND)


def _timestamp_s(value: datetime) -> str:
    """Seconds as a float in E notation: what one gets without useInt64Timestamp."""
    return f"{(value - EPOCH) / timedelta(seconds=1):.15E}"


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _decimal(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


SHOWN: dict[str, Callable[[Any], str]] = {
    "BIGNUMERIC": lambda value: value["$bignumeric"],
    "BOOLEAN": lambda value: "true" if value else "false",
    "BYTES": lambda value: base64.b64encode(value).decode(),
    "DATE": lambda value: value.isoformat(),
    "DATETIME": lambda value: value.isoformat(),
    "FLOAT": _float,
    "GEOGRAPHY": lambda value: value["$geography"],
    "INTEGER": lambda value: str(int(value)),
    "JSON": str,
    "NUMERIC": _decimal,
    "STRING": str,
    "TIME": lambda value: value.isoformat(),
}


# ---- in


def parsed_row(row: Any, schema: Schema, *, ignore_unknown: bool = False) -> dict[str, Any]:
    """A JSON row as values for Arrow: unknown columns, missing REQUIRED ones and wrong values are errors."""
    if not isinstance(row, Mapping):
        raise invalid("JSON table encountered too many errors, giving up: a row is not an object")
    return _parsed_record(row, schema, "", ignore_unknown=ignore_unknown)


def _parsed_record(row: Mapping[str, Any], schema: Schema, path: str, *, ignore_unknown: bool) -> dict[str, Any]:
    given = {name.lower(): value for name, value in row.items()}
    unknown = set(given) - {field.name.lower() for field in schema}
    if unknown and not ignore_unknown:
        name = next(each for each in row if each.lower() in unknown)
        raise invalid(f"JSON parsing error in row: No such field: {path}{name}.", f"{path}{name}")
    found = {}
    for field in schema:
        value = given.get(field.name.lower())
        where = f"{path}{field.name}"
        if field.mode == "REPEATED":
            found[field.name] = _parsed_array(value, field, where, ignore_unknown=ignore_unknown)
        elif value is None and field.mode == "REQUIRED":
            raise invalid(f"Missing required field: {where}.", where)
        else:
            found[field.name] = _parsed(value, field, where, ignore_unknown=ignore_unknown)
    return found


def _parsed_array(value: Any, field: Field, where: str, *, ignore_unknown: bool) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"Array specified for non-repeated field or the other way round: {where}.", where)
    if any(each is None for each in value):
        raise invalid(f"Only optional fields can be set to NULL. Field: {where}; Value: NULL", where)
    return [_parsed(each, field.element, where, ignore_unknown=ignore_unknown) for each in value]


def _parsed(value: Any, field: Field, where: str, *, ignore_unknown: bool) -> Any:
    if value is None:
        return None
    if isinstance(value, list) and field.type != "JSON":
        raise invalid(f"Array specified for non-repeated field: {where}.", where)
    if field.type == "RECORD":
        if not isinstance(value, Mapping):
            raise invalid(f"JSON object expected for record field {where}.", where)
        return _parsed_record(value, field.fields, f"{where}.", ignore_unknown=ignore_unknown)
    try:
        return PARSED[field.type](value)
    except (ValueError, TypeError, ArithmeticError, binascii.Error) as error:
        told = f"Could not convert value to {field.type.lower()}. Field: {where}; Value: {str(value)[:100]}"
        raise invalid(told, where) from error


def stored(field: Field, value: Any) -> Any:
    """One parameter's text as a value for Arrow."""
    return _parsed(value, field, field.name, ignore_unknown=False)


def _integer(value: Any) -> int:
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or int(number) != number or int(number) not in INT64:
        raise ValueError(value)
    return int(number)


def _real(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()] if _known(value) else _fail(value)


def _known(value: Any) -> bool:
    return str(value).lower() in ("true", "false", "1", "0")


def _fail(value: Any) -> Any:
    raise ValueError(value)


def _numeric(type_: str) -> Callable[[Any], Decimal]:
    before, after = NUMERIC_DIGITS[type_]

    def parse(value: Any) -> Decimal:
        if isinstance(value, bool):
            raise TypeError(value)
        with localcontext() as context:
            context.prec = 100
            try:
                number = Decimal(str(value))
            except InvalidOperation as error:
                raise ValueError(value) from error
            number = number.quantize(Decimal(1).scaleb(-after), rounding="ROUND_HALF_UP")
        if number.adjusted() >= before or (type_ == "BIGNUMERIC" and abs(number) > BIGNUMERIC_LIMIT):
            raise ValueError(value)
        return number

    return parse


def bignumeric_text(value: Any) -> str:
    """The one spelling of a BIGNUMERIC, so that equal numbers are equal texts."""
    return _decimal(_numeric("BIGNUMERIC")(value))


def _timestamp(value: Any) -> datetime:
    """A text (UTC unless it says a zone), or seconds since 1970."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return EPOCH + timedelta(microseconds=round(value * 1_000_000))
    moment = datetime.fromisoformat(str(value).strip().replace(" UTC", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _datetime(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo is None else _fail(value)


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        raise TypeError(value)
    return orjson.dumps(value).decode()


def _json(value: Any) -> str:
    """A JSON column takes a JSON text; insertAll and loads take an object as well."""
    if isinstance(value, str):
        orjson.loads(value)
        return value
    return orjson.dumps(value).decode()


PARSED: dict[str, Callable[[Any], Any]] = {
    "BIGNUMERIC": lambda value: {"$bignumeric": bignumeric_text(value)},
    "BOOLEAN": _boolean,
    "BYTES": lambda value: base64.b64decode(value, validate=True),
    "DATE": date.fromisoformat,
    "DATETIME": _datetime,
    "FLOAT": _real,
    "GEOGRAPHY": lambda value: {"$geography": _string(value)},
    "INTEGER": _integer,
    "JSON": _json,
    "NUMERIC": _numeric("NUMERIC"),
    "STRING": _string,
    "TIME": time.fromisoformat,
    "TIMESTAMP": _timestamp,
}
