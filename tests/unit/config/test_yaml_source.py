"""YAML becomes plain data with lines; YAML 1.1's surprises do not happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.config.yaml_source import Problem, Source, YamlProblem, dotted, dump_yaml, parse_yaml, read_text


def parse(text: str) -> Any:
    return parse_yaml(text, "x.yaml").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ('""', ""),
        ('"true"', "true"),
        (".inf", ".inf"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_the_key_on_is_text() -> None:
    assert parse("watch: {tables: raw.x_*, on: new}") == {"watch": {"tables": "raw.x_*", "on": "new"}}


def test_every_value_has_the_line_of_its_key_or_item() -> None:
    source = parse_yaml("a:\n  b:\n    - x\n    - y\nc: {d:\n  1}\n", "x.yaml")
    assert [source.line(path) for path in [("a",), ("a", "b"), ("a", "b", 1), ("c", "d"), ("c", "gone")]] == [
        1,
        2,
        4,
        5,
        5,
    ]


def test_a_literal_block_knows_where_its_text_begins() -> None:
    assert parse_yaml("a: x\nuser: |\n  one\n  two\nz: 'q'\n", "x").blocks == {("user",): 3}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' stands twice, first on line 1"),
        ("a:\n  - {k: 1, k: 2}", 2, "the key 'k' stands twice, first on line 2"),
        ("a: [1,\n b", 1, "bracket that begins here is never closed"),
        ("a: 1\nb: {c: 1, d: [2]\ne: 3\n", 2, "never closed, or lacks a comma"),
        ("x: 1\na: b: c", 2, "a second `key: value` on one line"),
        ("a:\n\tb: 1", 2, "a tab stands where YAML wants spaces"),
        ("a: !!python/object/apply:os.system [x]", 1, "tags (!name) are not allowed"),
        ("a: !thing x", 1, "tags (!name) are not allowed"),
        ("a: !!timestamp 2024-01-01", 1, "tags (!name) are not allowed"),
        ("a: !!int x", 1, "does not fit its tag"),
        ("a: &x [*x]", 1, "an alias (*name) that contains itself"),
        ("a: *x", 1, "no anchor"),
        ("1: x", 1, "a key must be text"),
        ("a: {{ text }}", 1, "begins with {{ needs quotes"),
        ("x: 1\na: 'b\nc: d", 2, "a quote that begins here is never closed"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: 1\nb: \x01", 2, "a control character"),
        ("a: @x", 1, "may not begin with this character"),
        ("a: 'x' y", 1, "does not fit the lines above"),
        ("[" * 1500, 1, "nested too deeply"),
        ("x: -\n  - a\n b", 1, "not valid YAML"),
    ],
)
def test_what_is_not_accepted_is_told_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        parse(text)
    assert reason in caught.value.reason
    assert caught.value.line == line
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_small_text_cannot_become_huge_data() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    with pytest.raises(YamlProblem, match="more than 100000 values"):
        parse(bomb)


def test_aliases_repeat_values() -> None:
    assert parse("a: &x {k: 1}\nb: *x") == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize(
    "text", ["a: 'QQQ", "a: QQQ: b: c", "a: @QQQ", "- a\nQQQ: 1", "a: *QQQ", "a: !QQQ x", "{a: QQQ"]
)
def test_a_syntax_error_never_quotes_the_file(text: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        parse(text)
    assert "QQQ" not in str(caught.value)


def test_files_are_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes("\ufeffa: ü".encode())
    assert read_text(file) == "a: ü"
    file.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(YamlProblem, match="line 2: the file is not UTF-8"):
        read_text(file)


def test_an_empty_text_is_no_data() -> None:
    assert parse("") is None
    assert parse("# only a comment\n") is None


def test_a_message_lists_problems_in_the_order_of_the_file_without_repeats() -> None:
    source = parse_yaml("a: 1\nb: 2\n", "jobs/x.yaml")
    problems = [
        Problem(("b",), "bad"),
        Problem(("a",), "worse"),
        Problem(("b",), "bad"),
        Problem((), "all", at="p.md:3"),
    ]
    assert source.message(problems).splitlines() == ["jobs/x.yaml:1: a: worse", "p.md:3: all", "jobs/x.yaml:2: b: bad"]


def test_python_data_has_no_lines() -> None:
    assert Source("job x", {}).where(("a", 0, "b")) == "job x: a[0].b"


def test_a_key_that_looks_like_a_secret_is_not_shown() -> None:
    assert dotted(("a", "deadbeef" * 4, 1)) == "a.***[1]"


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)


@given(
    st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    )
)
def test_what_is_written_reads_back_equal(data: Any) -> None:
    assert parse(dump_yaml({"a": data})) == {"a": data}


def test_texts_of_several_lines_are_written_as_blocks() -> None:
    assert dump_yaml({"user": "one\n{{ two }}\n"}) == "user: |\n  one\n  {{ two }}\n"
