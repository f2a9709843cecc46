"""How rows come out of BigQuery, as far as the source says it; the rest is in tests/contract."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[4]
ITS_OWN = {"to_arrow", "to_dataframe", "to_dataframe_iterable", "to_geodataframe"}


def test_no_row_comes_by_a_way_of_the_clients_own() -> None:
    """google-cloud-bigquery's methods for frames call Google wherever google-cloud-bigquery-storage is installed.

    ``to_arrow_iterable`` does so only when it is handed a client for it.
    """
    files = [
        path for folder in ("batch_llm", "assets", "resources", "sensors") for path in (ROOT / folder).rglob("*.py")
    ]
    asking = [path for path in files if "google.cloud" in path.read_text(encoding="utf-8")]
    assert len(asking) > 10
    asked = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in asking
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ITS_OWN or (node.func.attr == "to_arrow_iterable" and (node.args or node.keywords))
    ]
    assert not asked
