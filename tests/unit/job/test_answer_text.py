"""Reading JSON out of what a model wrote: what is read over, what is refused, what never happens."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batch_llm.job import answer_text
from batch_llm.job.answer_text import AnswerMismatch, read_json
from tests.search import examples

GOOD = {"tone": "calm", "score": 0.5}
PLAIN = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"  \n{PLAIN}\n",
        f"```json\n{PLAIN}\n```",
        f"```\n{PLAIN}```\n",
        f"Sure! Here it is:\n\n```json\n{PLAIN}\n```\nHope this helps.",
        f"Sure! {PLAIN}",
        f"{PLAIN} Hope this helps",
        f"~~~\n{PLAIN}\n~~~",
        f"\ufeff{PLAIN}",
        f"\ufeff```json\n\ufeff{PLAIN}\n```",
        f"[{PLAIN}]",
        f"```json\n[{PLAIN}]\n```",
        f"As said in [1], the {{tone}} is: {PLAIN}",
        f"{PLAIN}\nOnce more, to be sure:\n{PLAIN}",
        f'{PLAIN} or, the other way round, {{"score": 0.5, "tone": "calm"}}',
        '{"tone": "calm", "score": 0.5,}',
        '{"tone": "calm", "score": 0.5 ,\n}',
        '[{"tone": "calm", "score": 0.5},]',
        '{“tone”: "calm", “score”: 0.5}',
        '{„tone“: "calm", ”score” : 0.5}',
    ],
)
def test_what_only_surrounds_or_punctuates_the_json_is_read_over(text: str) -> None:
    assert read_json(text) == GOOD


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": True, "b": False, "c": None,}', {"a": True, "b": False, "c": None}),
        ('so: {"a": [1, 2, ], "b": {"c": 3,},}', {"a": [1, 2], "b": {"c": 3}}),
        ('so: {"a": "True, None,}", "b": "“x”: ,]", "c": True}', {"a": "True, None,}", "b": "“x”: ,]", "c": True}),
        ('so: {"a": "a \\"quoted, } word\\",]"}', {"a": 'a "quoted, } word",]'}),
        ("{}", {}),
        ("so: {}", {}),
    ],
)
def test_texts_between_quotes_stay_as_they_are(text: str, value: Any) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no brackets at all",
        "only {prose} and [1]",
        '{"a": 1',
        'Sure: {"a": {"b": 1}',  # the inner object is whole: it is not the answer
        'Sure: {"a": "x}',
        'Sure: [{"a": 1}',
        'Sure: [{"a": 1},',
        'so {"a": 1} and then {"a": 1',
        '"a": {"b": 1}}',  # its beginning is gone
        '{"a": 1}}',
        '1] {"a": 1}',
        '{"a": 1]',
        "{'a': 1}",
        '{"a": “x”}',  # where such a text ends is a guess
        '{"a“: 1}',
        '{"a": "say "x""}',
        '{"a" 1}',
        '{"a": 1 "b": 2}',
        '{"a": }',
        '{"a": ,}',
        "{,} and so on",
        '{"a": [,]}',
        '{"a": 1,,}',
        '{"a": NaN}',
        '{"a": 1} // a comment with {an end',
        '[[{"a": 1}]] it is',
        '{"a": undefined, "b": true}',
        '{"a": TrueTone}',
        '{"a": "\\ud800"}',
        "\ud800 {}}",
    ],
)
def test_what_would_need_a_guess_is_no_answer(text: str) -> None:
    with pytest.raises(AnswerMismatch, match="the answer is not JSON"):
        read_json(text)


@pytest.mark.parametrize(
    "text", ['{"a": 1} {"a": 2}', '{"a": 1} or {"a": true}', 'x [{"a": 1}] y {"a": 2}', '{} {"a": 1}']
)
def test_two_objects_that_differ_are_no_answer(text: str) -> None:
    with pytest.raises(AnswerMismatch, match="several JSON objects that differ"):
        read_json(text)


def test_a_list_of_several_is_not_one_answer() -> None:
    assert read_json('[{"a": 1}, {"a": 1}]') == [{"a": 1}, {"a": 1}]  # the schema refuses it
    with pytest.raises(AnswerMismatch, match="not JSON"):
        read_json('so: [{"a": 1}, {"a": 1}]')


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_is_nested_more_deeply_than_a_schema_allows_is_no_answer(opening: str) -> None:
    """However many brackets stand beside each other, or in texts."""
    closing = "]" if opening == "[" else "}"
    wide = {"list": [[]] * 500, "text": "[" * 500}
    assert read_json(json.dumps(wide)) == wide
    inner = answer_text.MOST_LEVELS - 1
    deepest = f'{{"a": {opening * inner}1{closing * inner}}}'
    for before in ("", "so: ", "[1] so: "):
        assert read_json(before + deepest) == json.loads(deepest)
        with pytest.raises(AnswerMismatch, match="nested too deeply: more than 100 levels"):
            read_json(f'{before}{{"a": {deepest}}}')


def test_the_plain_case_reads_once_and_looks_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once:
        JSONDecodeError = orjson.JSONDecodeError
        calls = 0

        @classmethod
        def loads(cls, text: str) -> Any:
            cls.calls += 1
            return json.loads(text)

    monkeypatch.setattr(answer_text, "orjson", Once)
    for name in ("_in_plain_text", "_objects"):
        monkeypatch.setattr(answer_text, name, None)
    assert read_json(PLAIN) == GOOD
    assert Once.calls == 1


@pytest.mark.parametrize(
    "filling", [" ", '"', "{", "[", "“", "“a", ",", ", ", "\\", '\\"', "True ", '{"a":', "{}", "[]", "a"]
)
def test_a_model_that_runs_wild_costs_no_more_than_its_length(filling: str) -> None:
    """Time grows with the text, not with its square: else these 400 kB end in the time-out of all tests."""
    wild = filling * (400_000 // len(filling))
    for text in ("{" + wild, '{"a": ' + wild, '{"a": ' + wild + "}"):
        with pytest.raises(AnswerMismatch):
            read_json(text)


# -- invariants


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=8) | st.sampled_from(["“", "None", "a}"]), inner, max_size=3)


tricky = st.sampled_from(["True", "None,}", "“x”: 1", "```", "{", "}", "[", "]", '"', "\\", ",]", ": {"])
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text() | tricky
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=8)
answers = objects(values)
prose = st.text(st.characters(exclude_characters="{}[]"), max_size=40)
written = st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}])
fences = st.sampled_from([("", ""), ("```json\n", "\n```"), ("```", "```"), ("`", "`"), ("\ufeff", "")])


def is_json(value: Any) -> bool:
    """Without half characters, which no UTF-8 answer can hold."""
    try:
        orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return False
    return True


@settings(max_examples=examples(300))
@given(answers, prose, prose, fences, written)
def test_any_object_comes_back_equal_out_of_prose_and_fences(
    answer: dict[str, Any], before: str, after: str, fence: tuple[str, str], how: dict[str, Any]
) -> None:
    assume(is_json(answer) and is_json(before) and is_json(after))
    text = before + fence[0] + json.dumps(answer, **how) + fence[1] + after
    got = read_json(text)
    assert got == answer
    assert json.dumps(got, sort_keys=True) == json.dumps(answer, sort_keys=True)  # True is no 1 here


@settings(max_examples=examples(300))
@given(answers, st.booleans(), prose, fences, written, st.data())
def test_an_object_that_was_cut_short_never_becomes_good(
    answer: dict[str, Any], listed: bool, before: str, fence: tuple[str, str], how: dict[str, Any], data: st.DataObject
) -> None:
    """Wherever it was cut, whatever stood before it."""
    assume(is_json(answer))
    whole = json.dumps([answer, answer] if listed else answer, **how)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        got = read_json(before + fence[0] + cut)
    except AnswerMismatch:
        return
    assert not isinstance(got, dict)  # prose that happens to be JSON, such as 12, is no object


@settings(max_examples=examples(300))
@given(st.text(st.sampled_from('{}[]",:\\ \n“”aT1') | st.characters(), max_size=60))
def test_nothing_else_than_a_mismatch_is_raised_and_nothing_is_made_up(noise: str) -> None:
    """Whatever comes back stands in the text: its keys and texts, letter for letter."""
    try:
        got = read_json(noise)
    except AnswerMismatch:
        return
    pieces = [got] if not isinstance(got, dict) else [*got, *got.values()]
    for piece in pieces:
        if isinstance(piece, str) and "\\" not in noise:
            assert piece in noise


@pytest.mark.parametrize(
    "text",
    [
        '{"tone": "dovish", "tone": "hawkish"}',
        '{"tone": "dovish", "score": 1, "tone" : "dovish"}',
        '{"tone": "dovish", "t\\u006fne": "hawkish"}',
        'Sure:\n```json\n{"tone": "dovish", "tone": "hawkish"}\n```',
        '[{"tone": "dovish", "tone": "hawkish"}]',
        '{"list": [{"a": 1}, {"a": 1, "a": 2}], "note": "at 10:30"}',
        '{"tone": "dovish", "tone": "hawkish",} and {"tone": "hawkish"}',
        '{"note": "he said \\"no\\": twice", "note": "x"}',
    ],
)
def test_an_object_with_a_key_twice_says_two_things(text: str) -> None:
    with pytest.raises(AnswerMismatch, match="a key stands twice"):
        read_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"tone": "at 10:30: \\"so\\": yes", "list": [{"a": 1}, {"a": 2}], "of": {"tone": "a:b"}}',
        '{"a" : "x", "b"\n: {"a": "\\": \\": "}}',
        '{"a": "x\\\\", "b": ":"}',
    ],
)
def test_colons_in_texts_and_equal_keys_of_several_objects_are_no_such_thing(text: str) -> None:
    assert read_json(text) == json.loads(text)


class _Pairs(list):  # type: ignore[type-arg]
    """The keys and values of an object, as they are written."""


_KEYS = st.sampled_from(["a", "b", "\u00e9", "a:", '"', "\\"])
_VALUES = st.recursive(
    st.sampled_from(["", ":", '":', "a", 1, None]),
    lambda inner: st.lists(inner, max_size=2) | st.lists(st.tuples(_KEYS, inner), max_size=3).map(_Pairs),
    max_leaves=8,
)


def _written(value: object) -> str:
    if isinstance(value, _Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(item)}" for key, item in value) + "}"
    return "[" + ", ".join(map(_written, value)) + "]" if isinstance(value, list) else json.dumps(value)


def _repeats(value: object) -> bool:
    items = value if isinstance(value, list) else []
    if isinstance(value, _Pairs):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(_repeats(item) for _, item in value)
    return any(map(_repeats, items))


@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=4).map(_Pairs))
def test_every_repeated_key_is_found_and_no_other(pairs: _Pairs) -> None:
    text = _written(pairs)
    if _repeats(pairs):
        with pytest.raises(AnswerMismatch, match="a key stands twice"):
            read_json(text)
    else:
        assert read_json(text) == json.loads(text)
