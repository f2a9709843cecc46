"""The kinds of provider, by the name that the providers file gives them.

Belongs here: what a kind means for the providers file, finding a kind by its name: ours, or a user's own by entry
point. Not here: one kind's facts (batch_llm/providers/kinds/, a file each), the file itself (providers_file.py).

Ours are found as a user's are: by the name of an object in a module, so that reading a file imports the kinds it names
and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from batch_llm.errors import ConfigurationError

__all__ = ["ENTRY_POINTS", "KindRules", "kind_named", "kind_names"]

ENTRY_POINTS = "batch_llm.providers"  # the group in which a package names its kinds
_OURS = {
    "openai": "batch_llm.providers.kinds.openai:KIND",
    "azure": "batch_llm.providers.kinds.azure:KIND",
    "google": "batch_llm.providers.kinds.google:KIND",
    "anthropic": "batch_llm.providers.kinds.anthropic:KIND",
    "openai_compatible": "batch_llm.providers.kinds.openai_compatible:KIND",
    "simulator": "batch_llm.providers.kinds.simulator:KIND",
}


@dataclass(frozen=True, kw_only=True)
class KindRules:
    """What the providers file may say of one kind, and what holds where it says nothing."""

    name: str
    api_key: Literal["required", "optional", "refused"] = "optional"
    project_for_key: bool = False  # a `project`, whose credentials sign in, may stand in the place of a key
    without_key: str = "needs none"  # what holds where the file names no key
    base_url: str | None = None  # the API's own
    base_url_at: Callable[[str], str] | None = None  # the API's own in a `location`
    base_url_example: str | None = None  # given: the file must name the URL
    # of a base_url: the account behind it, each of whose deployments has one limit whoever's key asks it; None: a key's
    # account has one limit for all models
    resource: Callable[[str], str] | None = None
    own_keys: frozenset[str] = frozenset()  # of OWN_KEYS, those that it has
    headers: str = "none"  # whose rate-limit headers its answers carry, see limiter/headers.py
    price_list: str | None = None  # its id in the price list; None: what the file calls the provider
    day_resets: str | None = None  # the time zone at whose midnight the limits per day begin anew
    structure: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    debit: Literal["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"] = "actual"
    cannot: Mapping[str, str] = field(default_factory=dict)  # a job's parameter, or `parameter=value`: why not
    most: Mapping[str, float] = field(default_factory=dict)  # parameter of a job: the largest value it takes
    needs: frozenset[str] = frozenset()  # parameters that a job must give


def kind_names() -> list[str]:
    """Every kind there is: ours, then those of installed packages."""
    return [*_OURS, *(found.name for found in entry_points(group=ENTRY_POINTS) if found.name not in _OURS)]


@cache
def kind_named(name: str) -> KindRules:
    """The kind of that name; a package cannot take the place of one of ours.

    Raises `ConfigurationError` for a name that `kind_names` does not have, or whose kind cannot be used.
    """
    found = _entry(name)
    try:
        kind = found.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"the provider kind {name!r} ({found.value}) cannot be loaded: {error}") from None
    if not isinstance(kind, KindRules) or kind.name != name:
        raise ConfigurationError(
            f"the provider kind {name!r} ({found.value}) must be a ProviderKind of that name "
            "(batch_llm/providers/kind.py)"
        )
    return kind


def _entry(name: str) -> EntryPoint:
    if name in _OURS:
        return EntryPoint(name, _OURS[name], ENTRY_POINTS)
    found = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    if found is None:
        raise ConfigurationError(f"there is no provider kind {name!r} (kinds: {', '.join(kind_names())})")
    return found
