"""What the providers file may say: the model of its providers, pools, limits and prices.

Belongs here: keys, types, bounds, the sentence about each. Not here: reading the file, rules that need more than one
key, which pool answers a model (providers_file.py).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from batch_llm.config.problems import did_you_mean, nearest
from batch_llm.config.provider_kinds import kind_names
from batch_llm.config.secrets import SecretReference, mask
from batch_llm.config.yaml_source import Source

__all__ = ["Debit", "LimitsSpec", "PoolSpec", "PricesSpec", "ProviderSpec", "ProvidersFile"]

# What a limit may count and per what; the short names are those of the providers' pages.
_COUNTED = ("requests", "tokens", "input_tokens", "output_tokens")
_PERIODS = ("second", "minute", "day")
_SHORT_NAMES = {
    "rps": "requests_per_second",
    "rpm": "requests_per_minute",
    "rpd": "requests_per_day",
    "tpm": "tokens_per_minute",
    "tpd": "tokens_per_day",
    "itpm": "input_tokens_per_minute",
    "otpm": "output_tokens_per_minute",
}

_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"  # RFC 9110, section 5.6.2
_DEPLOYMENT = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"  # it stands in the address
_PROJECT = r"^[a-z0-9][a-z0-9.:-]{1,61}[a-z0-9]$"  # these two stand in the address as well
_LOCATION = r"^[a-z]+(-[a-z0-9]+)*$"
_API_VERSION = r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview)?$"
_OUR_HEADERS = (
    *("authorization", "api-key", "x-api-key", "x-goog-api-key", "anthropic-version", "host"),
    *("content-length", "content-type", "transfer-encoding", "connection", "accept"),
)

Debit = Literal["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class _Part(BaseModel):
    """A part of the providers file: unknown keys are refused, types never guessed, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class LimitsSpec(_Part):
    """What the provider allows this pool; absent: no limit of that kind."""

    requests_per_minute: float | None = Field(default=None, gt=0, description="Requests per minute.")
    requests_per_second: float | None = Field(
        default=None, gt=0, description="Requests per second, in the place of requests_per_minute."
    )
    tokens_per_minute: float | None = Field(default=None, gt=0, description="Input and output tokens per minute.")
    tokens_per_second: float | None = Field(
        default=None, gt=0, description="Input and output tokens per second, in the place of tokens_per_minute."
    )
    input_tokens_per_minute: float | None = Field(default=None, gt=0, description="Input tokens per minute.")
    output_tokens_per_minute: float | None = Field(default=None, gt=0, description="Output tokens per minute.")
    requests_per_day: float | None = Field(default=None, gt=0, description="Requests per day.")
    tokens_per_day: float | None = Field(default=None, gt=0, description="Input and output tokens per day.")
    max_concurrency: int | None = Field(default=None, ge=1, description="Requests in flight at once.")
    enqueued_tokens: int | None = Field(default=None, ge=1, description="Tokens waiting in provider batches.")

    @property
    def requests_each_minute(self) -> float | None:
        """The requests per minute, whichever way they were given."""
        return _each_minute(self.requests_per_minute, self.requests_per_second)

    @property
    def tokens_each_minute(self) -> float | None:
        """The tokens per minute, whichever way they were given."""
        return _each_minute(self.tokens_per_minute, self.tokens_per_second)

    @classmethod
    def advice_for(cls, name: str) -> str | None:
        """What to say of a limit that is called ``name``, when a similar name alone would not help."""
        if name.lower() in _SHORT_NAMES:
            return f"did you mean {_SHORT_NAMES[name.lower()]!r}?"
        counted, has_unit, unit = name.lower().partition("_per_")
        names = [each for each in cls.model_fields if each.startswith(f"{counted}_per_")]
        if counted not in _COUNTED or nearest(unit, _PERIODS):
            return None
        choice = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        if not has_unit:
            return f"the unit is missing: {choice}?"
        return f"its unit is none of {', '.join(_PERIODS)}; say it as {choice}"

    @model_validator(mode="after")
    def _at_least_one(self) -> LimitsSpec:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give at least one limit such as requests_per_minute, or write `limits: unknown`")
        return self


def _each_minute(per_minute: float | None, per_second: float | None) -> float | None:
    return per_minute if per_second is None else per_second * 60


def _which_limits(value: Any) -> str:
    return "<unknown>" if isinstance(value, str) else "<limits>"


class PricesSpec(_Part):
    """Prices that override the price list, US dollars per 1M tokens."""

    input: Decimal = Field(ge=0, strict=False, description="US dollars per 1M input tokens.")
    output: Decimal = Field(ge=0, strict=False, description="US dollars per 1M output tokens.")
    cached_input: Decimal | None = Field(
        default=None, ge=0, strict=False, description="US dollars per 1M cached input tokens; absent: as `input`."
    )


class _Endpoint(_Part):
    """What may stand on a provider or on one of its pools; the pool's wins."""

    base_url: str | None = Field(default=None, description="Where the API is: http(s)://host/v1.")
    api_key: SecretReference | None = Field(default=None, description="A reference: ${env:NAME}; never the key itself.")
    deployment: Annotated[str, Field(pattern=_DEPLOYMENT)] | None = Field(
        default=None, description="Azure's deployment name (kind azure); absent: the model's name."
    )
    api_version: Annotated[str, Field(pattern=_API_VERSION)] | None = Field(
        default=None,
        description="The dated version of Azure's API (kind azure), such as 2024-10-21; absent: the v1 API, which has "
        "none.",
    )

    project: Annotated[str, Field(pattern=_PROJECT)] | None = Field(
        default=None,
        description="A Google Cloud project's id (kind google): its Vertex AI is asked, in `location`; absent: the "
        "Gemini API.",
    )
    location: Annotated[str, Field(pattern=_LOCATION)] | None = Field(
        default=None, description="Where Vertex AI is asked (kind google): global, us-central1, europe-west4, .."
    )

    structured_output: Literal["json_schema", "json_object", "prompt"] | None = Field(
        default=None,
        description="How the model is told the answer's schema: by the API, which keeps to it (json_schema); in words, "
        "with the API's JSON mode (json_object) or without (prompt).",
    )
    idempotency_header: Annotated[str, Field(pattern=_HEADER_NAME)] | None = Field(
        default=None,
        description="a header that names each attempt (Idempotency-Key), where the endpoint documents one: then a "
        "repeated attempt is not billed twice",
    )

    @field_validator("idempotency_header")
    @classmethod
    def _no_header_of_ours(cls, name: str | None) -> str | None:
        if name is not None and name.lower() in _OUR_HEADERS:
            raise ValueError(f"{name} carries something else; give a header such as Idempotency-Key")
        return name

    @field_validator("base_url")
    @classmethod
    def _plain_http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            host.encode("idna").decode("idna")  # as whoever looks it up does: UnicodeError for a name that none can be
            good = parts.scheme in ("http", "https") and bool(host) and " " not in host and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good:
            raise ValueError("must be a URL like https://host/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("may hold no user, password, query or fragment (it is not shown); put a key into api_key")
        return url.rstrip("/")


class PoolSpec(_Endpoint):
    """One provider account and model group: everything that shares one limit."""

    name: Name = Field(default="main", description="Unique in its provider: letters, digits and _ . -")
    models: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description='Model names; "*" (any) for kind simulator or with `limits: unknown`.'
    )
    limits: Annotated[
        Annotated[Literal["unknown"], Tag("<unknown>")] | Annotated[LimitsSpec, Tag("<limits>")],
        Discriminator(_which_limits),
    ] = Field(description="requests_per_minute, tokens_per_minute, .. as your account page says; or `unknown`.")
    burst_s: float = Field(
        default=0, ge=0, description="Seconds of unused rate the provider lets one save up; never more is sent at once."
    )
    window_s: float | None = Field(
        default=None, gt=0, description="Length in seconds of the provider's fixed windows, if it counts in windows."
    )
    debit: Debit | None = Field(
        default=None, description="What the provider subtracts when a request comes in; absent: as its kind does."
    )
    day_resets: str | None = Field(
        default=None,
        description="Time zone (America/Los_Angeles, UTC, ..) at whose midnight the limits per day begin anew; "
        "absent: they refill evenly.",
    )
    headers: Literal["openai", "azure", "anthropic", "groq", "none"] | None = Field(
        default=None,
        description="Whose rate-limit headers the answers carry; absent: those of the provider's kind, and none for "
        "openai_compatible.",
    )
    prices: PricesSpec | None = Field(default=None, description="Overrides the price list, USD per 1M tokens.")
    context_tokens: int | None = Field(
        default=None,
        ge=1,
        description="How many tokens its models read and write at once; a row that needs more fails before it is "
        "sent. Absent: what the price list says of the model.",
    )
    max_output_tokens: int | None = Field(
        default=None,
        ge=1,
        description="The longest answer its models can write; what a budget sets aside for a call of a job without "
        "params.max_output_tokens.",
    )

    @field_validator("day_resets")
    @classmethod
    def _a_known_zone(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):  # not a name at all; a folder of zones; no such zone
            near = did_you_mean(name, sorted(available_timezones()))
            example = "" if near else "; give a name such as America/Los_Angeles or UTC"
            raise ValueError(f"there is no time zone {mask(name)}{near}{example}") from None
        return name


def _a_known_kind(name: str) -> str:
    names = kind_names()
    if name not in names:
        raise PydanticCustomError("literal_error", "{expected}", {"expected": ", ".join(map(repr, names))})
    return name


class ProviderSpec(_Endpoint):
    """One provider: an API, a key, and pools."""

    kind: Annotated[str, AfterValidator(_a_known_kind)] = Field(
        description="Which API it speaks.", json_schema_extra=lambda schema: schema.update(enum=[*kind_names()])
    )
    pools: list[PoolSpec] = Field(min_length=1, description="At least one pool with `models` and `limits`.")
    simulator: dict[str, Any] | None = Field(
        default=None, description="Settings of the simulator that is started in process (kind simulator)."
    )


class ProvidersFile(_Part):
    """The whole file."""

    providers: dict[Name, ProviderSpec] = Field(min_length=1, description="Providers by the name that jobs use.")
    _source: Source = PrivateAttr(default_factory=lambda: Source("providers", None))

    @property
    def source(self) -> Source:
        """Where each value stands, for messages."""
        return self._source
