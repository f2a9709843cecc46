"""Secrets: named in files by reference, read late, never shown.

Belongs here: references (``${env:NAME}``), their values, scrubbing texts, hiding what looks like a key. Not here:
which field may hold a reference (providers_file.py, job/model.py).
Invariant: no message made here contains a secret's value; every value that was resolved is known to `scrub`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from batch_llm.errors import NotYetAvailable, SecretError

__all__ = [
    "LITERAL_SECRET",
    "SecretError",
    "SecretReference",
    "is_reference",
    "known_secrets",
    "looks_secret",
    "mask",
    "register_secret",
    "resolve",
    "scrub",
]

LITERAL_SECRET = "literal_secret"  # noqa: S105  no password: the pydantic error type that becomes a SecretError
HIDDEN = "***"
SHORTEST_SCRUBBED = 4  # characters; hiding shorter ones would eat ordinary words

_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_GCP = re.compile(r"\$\{gcp-sm:(projects/[A-Za-z0-9:._/-]+)\}")
_LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|ya29|xox[a-z]|gh[a-z]|AIza|AKIA)[-_.A-Za-z0-9]{8,}"  # the prefixes vendors use
    r"|\b[0-9a-fA-F]{24,}\b"
    r"|(?=[A-Za-z0-9+=]*[a-z])(?=[A-Za-z0-9+=]*[A-Z])(?=[A-Za-z0-9+=]*[0-9])[A-Za-z0-9+=]{20,}"
    r"|://[^/\s@]+@"
    r"|hooks\.\S+"
)

_known: set[str] = set()
_lock = threading.Lock()  # engines of several slices resolve from several threads


def _must_be_reference(text: str) -> str:
    if is_reference(text):
        return text
    raise PydanticCustomError(
        LITERAL_SECRET,
        "must be a reference such as ${env:NAME}, never the secret itself (the value is not shown); put the "
        "secret into an environment variable and name the variable here",
    )


SecretReference = Annotated[
    str,
    AfterValidator(_must_be_reference),
    WithJsonSchema({"type": "string", "pattern": r"^\$\{(env:[A-Za-z_][A-Za-z0-9_]*|gcp-sm:projects/.+)\}$"}),
]
"""A pydantic field type: text that must be a reference; a literal is refused without being shown."""


def is_reference(text: str) -> bool:
    """Whether the whole text is one reference: ``${env:NAME}`` or ``${gcp-sm:projects/..}``."""
    return bool(_ENV.fullmatch(text) or _GCP.fullmatch(text))


def resolve(reference: str, environ: Mapping[str, str], *, needed_by: str = "") -> SecretStr:
    """The secret a reference names; from then on `scrub` hides it.

    Args:
        reference: ``${env:NAME}``; ``${gcp-sm:..}`` is refused as not yet available.
        environ: The environment variables to read.
        needed_by: Who needs it, for the message: ``provider 'openai'``.

    Raises:
        SecretError: The variable is not set, is empty or cannot be a key, or ``reference`` is a literal.
        NotYetAvailable: A kind of reference that has not landed.
    """
    if _GCP.fullmatch(reference):
        raise NotYetAvailable(
            f"{reference}{_for(needed_by)}: reading from Secret Manager is not yet available; use ${{env:NAME}}"
        )
    match = _ENV.fullmatch(reference)
    if match is None:
        raise SecretError(f"a literal secret{_for(needed_by)} was refused (it is not shown); use ${{env:NAME}}")
    name = match.group(1)
    value = environ.get(name, "").strip()  # a key read from a file with `export X="$(cat f)"` may end in white space
    if not value:
        raise SecretError(
            f"the environment variable {name} is not set{_for(needed_by)}; set it (export {name}=...) and run again"
        )
    register_secret(value)
    if not value.isprintable():
        raise SecretError(f"the environment variable {name}{_for(needed_by)} holds a line break or control character")
    return SecretStr(value)


def register_secret(value: str) -> None:
    """Make `scrub` hide this value from now on, in this process."""
    if len(value) >= SHORTEST_SCRUBBED:
        with _lock:
            _known.add(value)


def known_secrets() -> frozenset[str]:
    """Every secret this process has resolved so far."""
    with _lock:
        return frozenset(_known)


def scrub(text: str, secrets: Iterable[str] | None = None) -> str:
    """The text without any of the secrets, plain, URL-quoted or JSON-escaped, however often and in whichever way.

    Args:
        text: Any message, log line or page.
        secrets: What to hide; None: everything in `known_secrets`.
    """
    values = known_secrets() if secrets is None else secrets
    for value in sorted(values, key=len, reverse=True):  # the longest first: one secret may contain another
        if len(value) < SHORTEST_SCRUBBED:
            continue
        for form in (value, quote(value, safe=""), json.dumps(value)[1:-1]):
            text = text.replace(form, HIDDEN)
        if "\\" in text:
            text = _escaped(value).sub(HIDDEN, text)
    return text


@lru_cache(maxsize=64)
def _escaped(value: str) -> re.Pattern[str]:
    """The value with any of its characters behind backslashes, or written as its number."""
    return re.compile("".join(rf"(?:\\*{re.escape(each)}|\\+u(?i:{ord(each):04x}))" for each in value))


def looks_secret(text: str) -> bool:
    """Whether a text holds what vendors' keys look like, a URL with a password, or a known secret."""
    return bool(_LOOKS_SECRET.search(text)) or scrub(text) != text


def mask(value: Any) -> str:
    """How an error shows a value from a file: short, quoted, and hidden if it looks like a secret."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    if looks_secret(text):
        return "a value that is not shown because it looks like a secret"
    if len(text) > 60:
        text = text[:57] + "..."
    return (
        repr(text) if isinstance(value, str) else {"None": "nothing", "True": "true", "False": "false"}.get(text, text)
    )


def _for(needed_by: str) -> str:
    return f" for {needed_by}" if needed_by else ""
