"""Inputs of any shape through the whole engine: what the model is asked is what stood in the table, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm.errors import InputError
from tests.integration.engine_lab import answered_body, compatible_server, write_input
from tests.integration.lab import Lab

MEGABYTE = 1_000_000
TEXTS = {
    "astral": "\U0001d518\U0001d52b 👩\u200d👧 🇩🇪",
    "nul": "before\x00after",
    "controls": "bell\x07 escape\x1b[2J tab\t",
    "newlines": "a\nb\r\nc\rd\u2028e\u0085f",
    "right to left": "שלום\u202eabc",
    "combining": "e\u0301 ≠ é",
    "noncharacter": "\ufffe\uffff\U0010ffff",
    "template": "{{ 7 * 7 }} {% raw %} {# no #}",
    "empty": "",
    "blank": "   ",
}


@pytest.fixture
def asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run the lab's job over an input against a server that notes what it is asked."""
    monkeypatch.setenv("LOCAL_KEY", "k-1")

    async def run(table: str, prompt: str = "{{ text }}", **changes: Any) -> tuple[Any, list[str]]:
        prompts: list[str] = []

        async def answer(said: str) -> tuple[int, dict[str, Any]]:
            prompts.append(said)
            return 200, answered_body("fine")

        async with compatible_server(lab, answer) as model:
            own = {"input": {"table": table, "key": ["id"]}, "output": {"table": "out"}, **changes}
            return await lab.run(lab.job(model=model, prompt={"user": prompt}, **own)), prompts

    return run


# -- how many, how long ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl"])
async def test_no_rows_in_any_format(lab: Lab, asked: Callable[..., Any], suffix: str) -> None:
    """An empty output with its columns; of JSON lines an empty file has no columns, and says so."""
    path = lab.folder / f"none{suffix}"
    empty = pa.table({"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())})
    if suffix == ".parquet":
        pq.write_table(empty, path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, empty.schema):
            pass
    else:
        path.write_text("id,text\n" if suffix == ".csv" else "")
    if suffix == ".jsonl":
        with pytest.raises(InputError, match="is empty: it has no rows, and no names of columns"):
            await asked(path.name)
        return
    summary, prompts = await asked(path.name)
    assert (summary.rows, prompts, lab.rows()) == (0, [], [])


async def test_one_row(lab: Lab, asked: Callable[..., Any]) -> None:
    write_input(lab, id=[1], text=["one"])
    summary, prompts = await asked("input.parquet")
    assert (summary.ok, prompts) == (1, ["one"])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
async def test_rows_of_a_megabyte(lab: Lab, asked: Callable[..., Any], suffix: str) -> None:
    """Every character arrives."""
    texts = [f"{i} " + "x" * MEGABYTE for i in range(12)]
    table = pa.table({"id": list(range(12)), "text": texts})
    if suffix == ".parquet":
        pq.write_table(table, lab.folder / "long.parquet")
    elif suffix == ".csv":
        lines = [f"{i},{text}" for i, text in enumerate(texts)]
        (lab.folder / "long.csv").write_text("\n".join(["id,text", *lines]))
    else:
        (lab.folder / "long.jsonl").write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    summary, prompts = await asked(f"long{suffix}")
    assert (summary.ok, sorted(prompts) == sorted(texts)) == (12, True)


# -- what stands in a cell ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
async def test_any_text_arrives_as_it_is(lab: Lab, asked: Callable[..., Any], suffix: str) -> None:
    """Also as a key and as a kept column."""
    rows = [{"id": name, "text": text, "again": text} for name, text in TEXTS.items()]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), lab.folder / "texts.parquet")
    else:
        (lab.folder / "texts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    summary, prompts = await asked(f"texts{suffix}", output={"table": "out", "keep": ["again"]})
    assert summary.ok == len(TEXTS)
    assert sorted(prompts) == sorted(TEXTS.values())
    assert {row["id"]: row["again"] for row in lab.rows()} == TEXTS


async def test_half_a_character_in_json_is_told(lab: Lab, asked: Callable[..., Any]) -> None:
    """A lone surrogate is no text: the file is refused before any call, never sent as something else."""
    (lab.folder / "half.jsonl").write_text('{"id": 1, "text": "whole"}\n{"id": 2, "text": "half \\ud800"}\n')
    with pytest.raises(InputError, match=r"half\.jsonl"):
        await asked("half.jsonl")


async def test_nested_columns(lab: Lab, asked: Callable[..., Any]) -> None:
    """Fields, elements, maps and lists of structs, through the prompt and through `keep`."""
    turns = [[{"who": "a", "said": "hi"}, {"who": "b", "said": None}], []]
    order = [{"items": 2, "at": {"city": "Ulm"}}, {"items": None, "at": {"city": "Köln"}}]
    write_input(lab, id=[1, 2], turns=turns, order=order, tags=[["x", "y"], None])
    loop = "{% for t in turns %} {{ t.who }}:{{ t.said }}{% endfor %}"
    prompt = "{{ order.items }} {{ order.at.city }} {{ tags | join('+') }}" + loop
    summary, prompts = await asked("input.parquet", prompt, output={"table": "out", "keep": ["turns", "order"]})
    assert (summary.ok, sorted(prompts)) == (2, [" Köln ", "2 Ulm x+y a:hi b:"])
    assert [(row["turns"], row["order"]) for row in lab.rows()] == list(zip(turns, order, strict=True))


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["if", "for", "not", "true", "none"])
async def test_a_column_named_like_a_word_of_the_template(lab: Lab, asked: Callable[..., Any], name: str) -> None:
    """It may stand in the table and be kept; it may be printed where Jinja2 does not keep the word for itself."""
    write_input(lab, **{"id": [1], "text": ["t"], name: ["kept"]})
    summary, prompts = await asked("input.parquet", output={"table": "out", "keep": [name]})
    assert (summary.ok, prompts, lab.rows()[0][name]) == (1, ["t"], "kept")
    if name in ("if", "for"):
        summary, prompts = await asked("input.parquet", f"{{{{ {name} }}}}", output={"table": "printed"})
        assert (summary.ok, prompts) == (1, ["kept"])


@pytest.mark.parametrize("name", ["loop", "range", "items", "select", "Größe", "order"])
async def test_a_column_with_a_busy_name(lab: Lab, asked: Callable[..., Any], name: str) -> None:
    """SQL's words, Jinja2's functions and letters beyond ASCII are names like others."""
    write_input(lab, **{"id": [1], name: ["value"]})
    summary, prompts = await asked("input.parquet", f"{{{{ {name} }}}}", output={"table": "out", "keep": [name]})
    assert (summary.ok, prompts) == (1, ["value"])


# -- where it stands ------------------------------------------------------------------------------------------------


async def test_a_table_of_the_warehouse(lab: Lab, asked: Callable[..., Any]) -> None:
    """Of a schema of its own, with a type that only DuckDB has."""
    lab.settings.duckdb_path.parent.mkdir(parents=True)
    with duckdb.connect(str(lab.settings.duckdb_path)) as connection:
        connection.execute("CREATE SCHEMA raw")
        connection.execute("CREATE TYPE mood AS ENUM ('calm', 'tense')")
        connection.execute(
            "CREATE TABLE raw.texts AS SELECT i AS id, 'calm'::mood AS text FROM range(3) t(i)"
        )  # one request
    summary, prompts = await asked("raw.texts")
    assert (summary.ok, summary.cached, prompts) == (3, 2, ["calm"])


async def test_a_glob_of_files_whose_columns_differ(lab: Lab, asked: Callable[..., Any]) -> None:
    """One input: columns by name, absent ones null."""
    (lab.folder / "parts").mkdir()
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), lab.folder / "parts" / "1.parquet")
    pq.write_table(pa.table({"more": ["m"], "text": ["b"], "id": [2]}), lab.folder / "parts" / "2.parquet")
    summary, prompts = await asked("parts/*.parquet", "{{ text }}/{{ more }}")
    assert (summary.ok, sorted(prompts)) == (2, ["a/", "b/m"])


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream], ids=["file", "stream"])
async def test_arrow_files(lab: Lab, asked: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Both of Arrow's formats; dictionaries are their values."""
    table = pa.table({"id": [1, 2], "text": pa.array(["a", "b"]).dictionary_encode()})
    with pa.OSFile(str(lab.folder / "in.arrow"), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)
    summary, prompts = await asked("in.arrow")
    assert (summary.ok, sorted(prompts)) == (2, ["a", "b"])


async def test_json_lines_with_missing_keys(lab: Lab, asked: Callable[..., Any]) -> None:
    """Absent is null, however late a key first comes; blank lines are nothing."""
    lines = ['{"id": 1, "text": "a"}', "", '{"id": 2}', '{"text": "c", "id": 3, "late": {"x": [1]}}']
    (lab.folder / "in.jsonl").write_text("\r\n".join(lines))
    summary, prompts = await asked("in.jsonl", "{{ text }}|{{ late.x if late else '' }}")
    assert (summary.ok, sorted(prompts)) == (3, ["a|", "c|[1]", "|"])


async def test_csv_with_newlines_of_several_kinds(lab: Lab, asked: Callable[..., Any]) -> None:
    """Between rows any kind; inside quotes they are text."""
    (lab.folder / "in.csv").write_bytes(b'\xef\xbb\xbfid,text\r\n1,"a\r\nb"\n2,"c\nd"\r3,"e, ""f"""\r\n')
    summary, prompts = await asked("in.csv")
    assert (summary.ok, sorted(prompts)) == (3, ["a\r\nb", "c\nd", 'e, "f"'])


# -- too long -------------------------------------------------------------------------------------------------------


async def test_a_row_larger_than_the_limit_fails_alone(lab: Lab) -> None:
    """Its size and the limit stand in its error; the others are answered."""
    write_input(lab, id=[1, 2, 3], text=["short", "word " * 20_000, "short, too"], extra=[0, 0, 0])
    async with lab.simulator(limits={"requests_per_minute": 60_000, "tokens_per_minute": 10_000}):
        summary = await lab.run()
    error = lab.rows()[1]
    assert (summary.ok, summary.failed_by_class, error["llm_attempts"]) == (2, {"too_large": 1}, 0)
    assert "needs 25,0" in error["llm_error"] and "allows 10,000 per minute" in error["llm_error"]


async def test_a_row_longer_than_the_models_context_fails_alone(lab: Lab) -> None:
    """The provider says so once: its words, with size and limit, stand in the row's error."""
    write_input(lab, id=[1, 2, 3], text=["short", "word " * 20_000, "short, too"], extra=[0, 0, 0])
    async with lab.simulator(context_tokens=8_000) as simulator:
        summary = await lab.run()
        assert simulator.stats()["rejected_total"] == 1
    error = lab.rows()[1]
    assert (summary.ok, summary.failed_by_class, error["llm_attempts"]) == (2, {"too_large": 1}, 1)
    assert "8000 tokens" in error["llm_error"] and "25002 tokens" in error["llm_error"]
    assert error["llm_cost_usd"] == 0 or error["llm_cost_usd"] is None
