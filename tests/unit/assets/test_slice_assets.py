"""Definitions of a family."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.slice_assets import Family, enriched_key, input_key, owners_of, slice_assets


@pytest.mark.parametrize("user", ["alice", "a@b", "Alice and Bob", "alice@example.org", "team/x", "ä"])
def test_any_user_label_is_an_owner_dagster_takes(user: str) -> None:
    made = slice_assets(Family(name="tone", description="a job", owners=owners_of(user)))
    assert [asset.key for asset in made] == [input_key("tone"), enriched_key("tone")]


def test_slices_are_not_retried_by_dagster() -> None:
    """Rows are retried by the engine; a retry policy would start a cancelled slice again."""
    for asset in slice_assets(Family(name="tone", description="a job")):
        assert isinstance(asset.op, dg.OpDefinition)
        assert asset.op.retry_policy is None
