"""What an output must be, in words."""

import pytest

from batch_llm.errors import OutputError
from batch_llm.warehouse.output_rules import check_columns

THERE = {"id": "DOUBLE", "tone": "VARCHAR", "llm_request_hash": "VARCHAR"}


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({"id": "BIGINT"}, "column 'id' is DOUBLE there .* or give the input's key column the type DOUBLE"),
        ({"tone": "BIGINT"}, r"column 'tone' is VARCHAR there .* or rename the column in output\.schema"),
    ],
)
def test_another_type_comes_with_what_helps_for_that_column(changed: dict[str, str], advice: str) -> None:
    with pytest.raises(OutputError, match=advice):
        check_columns("out", THERE, {**THERE, **changed}, None, ("id",))
