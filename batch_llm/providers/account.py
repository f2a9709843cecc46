"""What a provider is made of: where its requests go and on whose behalf.

Belongs here: the record that every kind gets. Not here: what a kind is (kind.py), reading the providers file
(config/providers_file.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from batch_llm.providers.structured_output import StructureMode

__all__ = ["Account"]


@dataclass(frozen=True, slots=True)
class Account:
    """Where a pool's requests go and on whose behalf, as the providers file says."""

    provider_name: str  # as in the providers file
    base_url: str  # the file's, else the kind's own; empty where neither has one
    api_key: SecretStr | None = None
    structure: StructureMode = StructureMode.JSON_SCHEMA  # how it is told the answer's schema
    idempotency_header: str | None = None  # which header names an attempt; None: none does
    deployment: str | None = None  # only of kinds that have it
    api_version: str | None = None  # only of kinds that have it
    project: str | None = None  # only of kinds that have it
    location: str | None = None  # where the project is asked
