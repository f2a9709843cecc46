"""Names in BigQuery, and how they get into SQL."""

from __future__ import annotations

import pytest

from batch_llm.errors import ConfigurationError, InputError, WarehouseError
from batch_llm.warehouse.bigquery.names import Dataset, TableName, literal, quoted

HOME = Dataset("p-1", "reports")


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("t", TableName("p-1", "reports", "t")),
        ("raw.t 1", TableName("p-1", "raw", "t 1")),
        ("other.raw.t-ü", TableName("other", "raw", "t-ü")),
        ("raw.ग्राहक_२", TableName("p-1", "raw", "ग्राहक_२")),
    ],
)
def test_a_table_is_named_from_the_warehouse_outwards(ref: str, expected: TableName) -> None:
    assert HOME.named(ref, InputError) == expected
    assert HOME.ref(expected) == ref


@pytest.mark.parametrize(
    "ref",
    ["", "a.b.c.d", ".t", "raw.", "raw. ", "t$3", "t`; DROP", "t@1", "a\\b", "a\nb", "t#2", "t?x", "t%2e", "t*"],
)
def test_what_is_no_table_name_is_refused(ref: str) -> None:
    """Also a partition, and whatever could leave the quotes or a call's address."""
    with pytest.raises(InputError, match="neither a table"):
        HOME.named(ref, InputError)


def test_a_pattern_stands_for_tables() -> None:
    assert HOME.matching("r?w*.t_[!0-9]*", InputError) == TableName("p-1", "r?w*", "t_[!0-9]*")
    with pytest.raises(InputError, match=r"neither a table .*letters, digits, spaces"):
        HOME.matching("raw.t#*", InputError)


@pytest.mark.parametrize("text", ["", "d", "p.", ".d", "p.d-1", "P.d", "p.d;x"])
def test_a_warehouse_is_a_project_and_a_dataset(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"bigquery:PROJECT\.DATASET"):
        Dataset.parse(text)


def test_a_domains_project_has_dots() -> None:
    assert Dataset.parse("example.com:p-1.d") == Dataset("example.com:p-1", "d")


def test_quotes_in_names_and_texts_do_not_end_them() -> None:
    assert quoted("a`b\\c") == "`a\\`b\\\\c`"
    assert literal("it's\n\\") == "'it\\'s\\n\\\\'"


def test_our_own_tables_are_no_inputs_and_no_run_reaches_anothers() -> None:
    run, longer = "tone-20261128-190000-ab12", "tone-20261128-190000-ab12_x"
    of_run = [HOME.work(run), HOME.files(run), HOME.out(run), HOME.prior(run, HOME.out("r0"))]
    assert all(name.is_internal for name in of_run)
    assert len({name.path for name in (*of_run, HOME.out(longer), HOME.prior(run, HOME.out("r1")))}) == 6
    assert not HOME.prior(longer, HOME.out("r0")).table.startswith(HOME.prior_prefix(run))
    with pytest.raises(WarehouseError, match="not a run id"):
        HOME.out("a.b")


@pytest.mark.parametrize(
    ("output", "view"), [("tone", "tone__live"), ("raw.tone", "tone__live"), ("/a/tone [1].parquet", "tone _1___live")]
)
def test_a_live_view_stands_beside_its_output(output: str, view: str) -> None:
    assert HOME.live(output).table == view
