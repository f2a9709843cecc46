"""What may be printed is an allow-list: a repr would be sent, paid, and differ from run to run."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import StrictUndefined, UndefinedError

from batch_llm.job.printed import NoTextError, printed, with_text
from batch_llm.job.template import PromptTemplate, RenderError

SCALARS = st.text() | st.integers() | st.floats() | st.booleans() | st.none()
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple)
)


def text(template: str, **row: Any) -> str:
    return PromptTemplate(None, template).render(row)[0].content


@given(st.lists(NESTED) | st.dictionaries(st.text(), NESTED))
def test_lists_of_plain_values_print_as_python_writes_them(value: Any) -> None:
    """Requests that were paid keep their hashes."""
    assert printed(value) is value
    assert text("{{ v }}", v=value) == str(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([dt.date(2020, 1, 31), None], "['2020-01-31', None]"),
        ([dt.datetime(2020, 1, 31, 9, tzinfo=dt.UTC)], "['2020-01-31 09:00:00+00:00']"),
        ([dt.time(9, 30), dt.timedelta(hours=1)], "['09:30:00', '1:00:00']"),
        ([Decimal("1.50"), Decimal("0E-9"), Decimal("1E+3")], "[1.50, 0.000000000, 1000]"),
        ({"day": dt.date(2020, 1, 31), "a": "b"}, "{'day': '2020-01-31', 'a': 'b'}"),
        ([("k", [Decimal("1.50"), 2.5])], "[('k', [1.50, 2.5])]"),
        ([UUID(int=1)], "['00000000-0000-0000-0000-000000000001']"),
        (dt.date(2020, 1, 31), "2020-01-31"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_dates_and_decimals_in_a_list_print_as_a_reader_writes_them(value: Any, words: str) -> None:
    assert text("{{ v }}", v=value) == words
    assert text("{{ v | string }}{{ '' ~ v }}", v=value) == words * 2


@pytest.mark.parametrize(
    "template",
    [
        "{{ v | map('upper') }}",
        "{{ v | select }}",
        "{{ v | unique }}",
        "{{ v | reverse }}",
        "{{ v | batch(2) }}",
        "{{ d | items }}",
        "{{ d.keys() }}",
        "{{ range(3) }}",
        "{{ [v | map('upper')] }}",
        "{{ {'a': v | map('upper')} }}",
        "{{ v | map('upper') | upper }}",
        "{{ v | map('upper') | string }}",
        "{{ v | map('upper') | pprint }}",
        "{{ '' ~ v | map('upper') }}",
        "{{ [v | map('upper')] | join }}",
        "{{ '%s' | format(v | map('upper')) }}",
        "{{ '%s' % (v | map('upper')) }}",
        "{{ '{}'.format(v | map('upper')) }}",
        "{{ '{a}'.format(a=v | map('upper')) }}",
    ],
)
def test_what_comes_one_by_one_is_refused_with_a_way_out(template: str) -> None:
    """Its repr is an address in memory: the row would be asked and paid in each run."""
    with pytest.raises(RenderError, match=r"add \| join\(', '\) or \| list"):
        text(template, v=["x", "y"], d={"a": 1})


def test_the_way_out_works() -> None:
    template = "{{ v | map('upper') | join(', ') }} {{ v | map('upper') | list }} {{ range(2) | list }}"
    assert text(template, v=["x", "y"]) == "X, Y ['X', 'Y'] [0, 1]"
    assert text("{{ '%s %s' | format(v, 1) }} {{ '%s' % 2 }} {{ '{0}'.format(v) }}", v="x") == "x 1 2 x"


@pytest.mark.parametrize("value", [b"\xff", bytearray(b"\xff"), [b"\xff", "a"], {"a": [b"\xff"]}, [("k", b"\xff")]])
@pytest.mark.parametrize("template", ["{{ v }}", "{{ v | upper }}", "{{ '' ~ v }}", "{{ v | pprint }}"])
def test_bytes_are_refused_at_any_depth(value: Any, template: str) -> None:
    with pytest.raises(RenderError, match="bytes cannot stand in a prompt"):
        text(template, v=value)


def test_other_objects_are_refused() -> None:
    for template in ("{{ namespace(a=1) }}", "{{ [namespace(a=1)] }}", "{{ cycler(1) }}", "{{ joiner }}{{ f() }}"):
        with pytest.raises(RenderError):
            text(template, joiner=object(), f=1)
    with pytest.raises(NoTextError, match="call it with"):
        with_text([print])


def test_a_missing_field_in_a_list_is_missed() -> None:
    with pytest.raises(UndefinedError):
        printed([StrictUndefined(name="a")])
    with pytest.raises(RenderError, match="has no attribute 'b'"):
        text("{{ [a.b] }}", a={})


def test_a_list_may_be_nested_deeply() -> None:
    value: Any = "x"
    for _ in range(2_000):
        value = [value]
    assert printed(value) is value
