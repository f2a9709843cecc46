"""Prompts: a row's values are data, columns are known before any call, nothing odd is sent and paid."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import InputError, JobFileError
from batch_llm.job.template import PromptError, PromptTemplate, RenderedMessage, RenderError


def text(template: str, **row: Any) -> str:
    return PromptTemplate(None, template).render(row)[0].content


def test_system_comes_first_and_both_are_templates() -> None:
    prompt = PromptTemplate("You are {{ role }}.", "Grade:\n{{ text }}\n")
    assert prompt.columns == {"role", "text"}
    assert prompt.render({"role": "kind", "text": "x", "unused": 1}) == (
        RenderedMessage("system", "You are kind."),
        RenderedMessage("user", "Grade:\nx\n"),
    )


@pytest.mark.parametrize(
    "value", ["{{ 7*7 }}", "{% for x in y %}", "{# c #}", "{{ other }}", "{% raw %}", "}}{{", "<b>&\"'"]
)
def test_a_rows_text_is_never_a_template(value: str) -> None:
    assert text("[{{ a }}]{{ a | trim }}", a=value, other="no") == f"[{value}]{value}"


@given(st.text())
def test_any_text_comes_through_as_it_is(value: str) -> None:
    assert text("{{ a }}\n", a=value) == value + "\n"
    assert text("{% for t in turns %}{{ t.text }}{% endfor %}", turns=[{"text": value}]) == value


def test_a_nested_column_is_looped_over() -> None:
    turns = [{"speaker": "a", "text": "hi"}, {"speaker": "b", "text": "{{ 1 }}"}]
    assert text("{% for t in turns %}{{ t.speaker }}: {{ t.text }}\n{% endfor %}", turns=turns) == "a: hi\nb: {{ 1 }}\n"


def test_values_print_as_python_writes_them() -> None:
    row = {"d": dt.date(2020, 1, 2), "f": 1.5, "i": 3, "b": True}
    assert text("{{ d }} {{ f }} {{ i }} {{ b }}", **row) == "2020-01-02 1.5 3 True"


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("[{{ a }}]", "[]"),
        ("[{{ a | upper }}]", "[]"),
        ("[{{ a | replace('x', 'y') | trim | truncate(5) }}]", "[]"),
        ("[{{ 'x' ~ a ~ 'y' }}]", "[xy]"),
        ("[{{ a or 'none given' }}]", "[none given]"),
        ("{% if a is none %}null{% endif %}", "null"),
        ("[{% for x in a %}{{ x }}{% endfor %}]", "[]"),
        ("[{{ a | join(', ') }}]", "[]"),
        ("[{{ items | join('-') }}]", "[x--1]"),
        ("[{{ items | map('string') | join('-') }}]", "[x--1]"),
        ("[{{ structs | join('-', attribute='n') }}]", "[1-]"),
    ],
)
def test_a_null_prints_as_nothing(template: str, printed: str) -> None:
    assert text(template, a=None, items=["x", None, 1], structs=[{"n": 1}, {"n": None}]) == printed


def test_the_columns_are_known_without_a_row() -> None:
    loop = "{% set s = a %}{% for x in b if x.y > c %}{{ loop.index }}{{ x }}{{ s }}{% endfor %}"
    template = loop + "{# d #}{% raw %}{{ e }}{% endraw %}"
    assert PromptTemplate(None, template).columns == {"a", "b", "c"}


def test_a_missing_column_is_refused_before_any_call_with_the_nearest_name() -> None:
    prompt = PromptTemplate("{{ zzz }}", "{{ txt }}{{ text }}")
    with pytest.raises(InputError) as caught:
        prompt.check_columns(["id", "text", "title"])
    message = str(caught.value)
    assert "'txt', which the input does not have; did you mean 'text'?" in message
    assert "'zzz', which the input does not have\n" in message
    assert message.endswith("columns of the input: id, text, title")
    prompt.check_columns(["txt", "text", "zzz"])


@pytest.mark.parametrize(
    "name", ["range", "dict", "namespace", "cycler", "joiner", "lipsum", "loop", "super", "caller"]
)
def test_a_column_may_be_called_like_a_word_of_jinja(name: str) -> None:
    prompt = PromptTemplate(None, f"{{{{ {name} }}}}")
    assert prompt.columns == {name}
    assert prompt.render({name: "x"})[0].content == "x"


def test_functions_still_work_and_are_no_columns() -> None:
    assert PromptTemplate(None, "{% for i in range(2) %}{{ i }}{% endfor %}").columns == frozenset()
    assert text("{% for i in range(3) %}{{ i }}{% endfor %}", range="column, not used as one") == "012"
    assert text("{% set range = 4 %}{{ range }}") == "4"


def test_one_name_cannot_be_column_and_function() -> None:
    with pytest.raises(PromptError, match="line 2: 'range' is used as a column and as the function") as caught:
        PromptTemplate(None, "{{ range }}\n{{ range(2) }}")
    assert (caught.value.field, caught.value.line) == ("user", 2)


def test_a_field_of_a_struct_comes_before_a_method_of_python() -> None:
    assert text("{{ o.items }} {{ o.keys }} {{ o['values'] }}", o={"items": 1, "keys": 2, "values": 3}) == "1 2 3"


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("a\n{{ x", 2, "unexpected end of template"),
        ("{% for %}", 1, "Expected an expression"),
        ("a\n\n{% if x %}", 3, "endif"),
        ("{{ x | nofilter }}", 1, "No filter named 'nofilter'"),
        ("{{ [1] | random }}", 1, "No filter named 'random'"),
        ("x\n{% include 'secret.txt' %}", 2, "include, import, extends and block are not allowed"),
        ("{% import 'x' as y %}", 1, "not allowed"),
        ("{% from 'x' import y %}", 1, "not allowed"),
        ("{% extends 'x' %}", 1, "not allowed"),
        ("{% block b %}{% endblock %}", 1, "not allowed"),
        ("{{ self }}", 1, "'self'"),
        ("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", 1, "nested too deeply"),
    ],
)
def test_a_template_that_cannot_be_compiled_names_field_and_line(template: str, line: int, reason: str) -> None:
    with pytest.raises(PromptError) as caught:
        PromptTemplate(template, "ok")
    assert isinstance(caught.value, JobFileError)
    assert (caught.value.field, caught.value.line) == ("system", line)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ a.__class__ }}", "unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ a.append(1) }}", "unsafe"),
        ("{{ range.__globals__ }}", ""),
        ("{{ a.nothing }}", "has no attribute 'nothing'"),
        ("{{ a.x.y }}", "has no attribute"),
        ("{{ s.upper }}", "call it with ()"),
        ("{{ by }}", "bytes cannot stand in a prompt"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ s + 1 }}", "can only concatenate str"),
        ("{{ range(10**9) | list }}", "OverflowError"),
        ("{{ 'a' * 10**9 }}", "a repetition larger"),
        ("{{ [1] * 10**9 }}", "a repetition larger"),
        ("{{ 10 ** 10 ** 9 }}", "a power larger"),
    ],
)
def test_a_row_that_cannot_be_rendered_fails_alone_with_a_reason(template: str, reason: str) -> None:
    row = {"a": [1], "s": "text", "by": b"x", "range": 1}
    with pytest.raises(RenderError) as caught:
        text(template, **row)
    assert "prompt.user" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "template",
    ["{{ a[v] }}", "{{ a | attr(v) }}", "{{ v | int(default=w.x) }}", "{{ a.x(v) }}", "{{ d[v] }}", "{{ v.join(a) }}"],
)
def test_a_render_error_shows_no_value_of_the_row(template: str) -> None:
    value = f"__{secrets.token_hex(8)}'\"{secrets.token_hex(8)}"
    with pytest.raises(RenderError) as caught:
        text(template, a=[1, 2], v=value, w=value, d={})
    assert value[:12] not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_row_without_a_used_column_cannot_be_rendered() -> None:
    with pytest.raises(RenderError, match="the row has no column 'b'"):
        text("{{ a }}{{ b | default('x') }}", a=1)


def test_a_rows_list_cannot_be_changed_by_a_template() -> None:
    row = {"a": [1]}
    with pytest.raises(RenderError):
        text("{% set _ = a.append(2) %}", **row)
    assert row == {"a": [1]}


@given(
    st.lists(
        st.text("ab {}%#\n\\'\"\u00e9", max_size=5) | st.sampled_from(["{{ a }}", "{{b}}", "{{- a -}}"]), max_size=8
    ),
    st.text(max_size=9),
    st.text(max_size=9),
)
def test_texts_between_columns_are_joined_to_what_jinja_makes_of_them(parts: list[str], a: str, b: str) -> None:
    """The short way for plain templates and the long way say the same, whatever the row holds."""
    try:
        template = PromptTemplate(None, "x" + "".join(parts))
    except PromptError:
        return
    row = {"a": a, "b": b}
    (made,) = template.render(row)
    (compiled,) = template._parts
    assert made.content == compiled.template.render({name: row[name] for name in compiled.columns})


@pytest.mark.parametrize("name", ["none", "None", "true", "True", "false", "False"])
@pytest.mark.parametrize(
    "template",
    [
        "{{ %s }}",
        "{{ %s | upper }}",
        "{{ %s.a['b'] }}",
        "{{ %s or 'nothing' }}",
        "{{ 'x' ~ %s }}",
        "{%% if %s %%}x{%% endif %%}",
        "{%% for x in %s %%}x{%% endfor %%}",
    ],
)
def test_a_column_cannot_be_called_like_a_constant_of_jinja(name: str, template: str) -> None:
    """Its prompts would be empty, and paid."""
    prompt = PromptTemplate(template % name, "{{ id }}")
    with pytest.raises(InputError, match=f"Jinja2 keeps the name '{name}' for itself: rename the column"):
        prompt.check_columns(["id", name])
    prompt.check_columns(["id"])


def test_constants_stay_constants() -> None:
    template = "{{ a is none }}{{ a == none }}{{ a or true }}{{ a | default(false) }}{{ 1 }}{{ true if a else none }}"
    prompt = PromptTemplate(None, template)
    prompt.check_columns(["a", "none", "true", "false"])
    assert prompt.render({"a": None})[0].content == "TrueTrueTrue1"
