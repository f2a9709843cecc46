"""Secrets are named, read late, and never shown."""

from __future__ import annotations

import secrets as random_secrets
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.config.secrets import is_reference, known_secrets, looks_secret, mask, register_secret, resolve, scrub
from batch_llm.errors import NotYetAvailable, SecretError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${env:OPENAI_API_KEY}", True),
        ("${env:_x1}", True),
        ("${gcp-sm:projects/p/secrets/s/versions/latest}", True),
        ("${env:1X}", False),
        ("${env:}", False),
        ("${ENV:X}", False),
        ("${OPENAI_API_KEY}", False),
        ("$OPENAI_API_KEY", False),
        ("x${env:X}", False),
        ("${env:X}\n", False),
        ("plain", False),
        ("", False),
    ],
)
def test_only_a_whole_reference_is_one(text: str, expected: bool) -> None:
    assert is_reference(text) is expected


def test_a_resolved_secret_is_hidden_in_its_own_repr_and_in_every_later_text() -> None:
    value = random_secrets.token_hex(20)
    secret = resolve("${env:KEY}", {"KEY": value})
    assert secret.get_secret_value() == value
    assert value not in repr(secret)
    assert value in known_secrets()
    assert scrub(f"Bearer {value} failed") == "Bearer *** failed"


def test_white_space_around_a_key_is_dropped() -> None:
    assert resolve("${env:KEY}", {"KEY": " abcdef12\n"}).get_secret_value() == "abcdef12"


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": " \n"}])
def test_an_unset_variable_names_variable_owner_and_what_to_do(environ: dict[str, str]) -> None:
    with pytest.raises(SecretError) as caught:
        resolve("${env:KEY}", environ, needed_by="provider 'openai'")
    text = str(caught.value)
    assert "environment variable KEY is not set for provider 'openai'" in text
    assert "export KEY=" in text


def test_a_literal_is_refused_and_not_shown() -> None:
    value = random_secrets.token_hex(20)
    with pytest.raises(SecretError) as caught:
        resolve(value, {})
    assert value not in str(caught.value)


def test_a_key_with_a_line_break_inside_is_refused_and_not_shown() -> None:
    value = random_secrets.token_hex(10) + "\n" + random_secrets.token_hex(10)
    with pytest.raises(SecretError) as caught:
        resolve("${env:KEY}", {"KEY": value})
    assert "line break" in str(caught.value)
    assert not any(part in str(caught.value) for part in value.split())


def test_secret_manager_is_not_yet_available() -> None:
    with pytest.raises(NotYetAvailable, match="Secret Manager is not yet available"):
        resolve("${gcp-sm:projects/p/secrets/s}", {}, needed_by="provider 'x'")


def test_scrub_finds_quoted_and_escaped_forms_and_the_longer_of_two() -> None:
    value = 'pa/ss"wörd'
    assert (
        scrub(f'url {quote(value, safe="")} json pa/ss\\"w\\u00f6rd plain {value}', [value])
        == "url *** json *** plain ***"
    )
    assert scrub("abcdefgh", ["abcd", "abcdefgh"]) == "***"


def test_very_short_secrets_do_not_eat_words() -> None:
    register_secret("a1")
    assert scrub("a1 sauce", ["a1"]) == "a1 sauce"
    assert "a1" not in known_secrets()


@given(st.text(min_size=4), st.text(), st.text())
def test_no_scrubbed_text_holds_the_secret(secret: str, before: str, after: str) -> None:
    clean = scrub(before + secret + after, [secret])
    assert secret not in clean.replace("***", "\0") or secret in "***"


@pytest.mark.parametrize(
    "text",
    [
        "s" + "k-" + "abcdefgh1234",
        "A" + "Iza" + "SyA1234567890",
        "deadbeef" * 4,
        "postgres://user:word@host/db",
        "https://hooks.example.com/T0/B0",
        "aB3" * 8,
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text: str) -> None:
    assert looks_secret(text)
    assert text not in mask(text)


@pytest.mark.parametrize(
    "text",
    ["upsrt", "gpt-4.1-mini", "gpt-4o-mini-2024-07-18", "Qwen2-72B-Instruct-AWQ-Int4", "raw.reports_2024", "a b c"],
)
def test_ordinary_values_are_shown(text: str) -> None:
    assert mask(text) == repr(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (True, "true"),
        (3, "3"),
        ({"a": 1}, "a mapping"),
        ([1], "a list"),
        ("x" * 100, repr("x" * 57 + "...")),
    ],
)
def test_values_are_shown_as_in_yaml_and_short(value: object, shown: str) -> None:
    assert mask(value) == shown
