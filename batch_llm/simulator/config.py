"""How a simulated provider behaves: one frozen record.

Belongs here: the settings, their units and defaults. Not here: what is done with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from batch_llm.simulator.faults import FaultKind, parse_faults

__all__ = ["SimulatorConfig"]


def _faults(value: object) -> object:
    return parse_faults(value) if isinstance(value, str | int | float) else value


def _at_most_all(faults: dict[FaultKind, float]) -> dict[FaultKind, float]:
    if sum(faults.values()) > 1 + 1e-9:
        raise ValueError(f"the shares of all faults add up to more than 1: {sum(faults.values()):.3f}")
    return faults


Share = Annotated[float, Field(ge=0, le=1)]


class SimulatorConfig(BaseModel):
    """A simulated provider account. Without any limit, latency or fault it answers at once, always."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, description="Answers, latencies and faults are a function of it and of the prompt.")
    api_key: SecretStr | None = Field(default=None, description="The only key accepted; None: any non-empty key.")
    models: tuple[str, ...] = Field(
        default=("simulator/small", "simulator/large"),
        description="What GET /v1/models lists; every model named simulator/<anything> is answered.",
    )

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    input_tokens_per_minute: float | None = Field(default=None, gt=0)
    output_tokens_per_minute: float | None = Field(default=None, gt=0)
    requests_per_day: float | None = Field(default=None, gt=0)
    tokens_per_day: float | None = Field(default=None, gt=0)
    day_resets_s: float | None = Field(
        default=None,
        ge=0,
        lt=86_400,
        description="The limits per day begin anew so many seconds after midnight UTC; None: they drain evenly.",
    )
    burst_s: float = Field(
        default=1.0, ge=0, le=60, description="Seconds of unused rate one may save up (the limits per minute)."
    )
    window_s: float | None = Field(
        default=None, gt=0, description="Count the limits per minute in fixed windows of this length instead."
    )
    token_window_s: float | None = Field(
        default=None, gt=0, description="Windows of another length for the tokens per minute, as Azure has: 60."
    )
    debit: Literal["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"] = Field(
        default="actual", description="What a request takes from the token limits when it is admitted."
    )
    debit_at: Literal["admission", "end"] = Field(
        default="admission",
        description="When the output tokens of `debit: actual` are taken: known in advance, or once it is written.",
    )
    count_rejected: bool = Field(
        default=False, description="A request refused by a limit per minute counts against the requests per minute."
    )
    max_concurrency: int | None = Field(default=None, ge=1, description="More requests at once get a 503.")
    idempotency: bool = Field(
        default=False,
        description="A request that comes again under the same Idempotency-Key header gets the same answer, unbilled.",
    )
    quota_requests: int | None = Field(
        default=None, ge=0, description="Requests the account's credit pays for; then every one is insufficient_quota."
    )

    filtered_words: tuple[str, ...] = Field(
        default=(),
        description="Spoken to as Azure or Google: a prompt with one of these words is stopped by its filter.",
    )

    context_tokens: int = Field(default=128_000, ge=1, description="Prompt and completion together.")
    max_output_tokens: int = Field(default=16_384, ge=1, description="The longest completion the model can write.")
    chars_per_token: float = Field(default=4.0, gt=0, description="UTF-8 bytes per token, rounded up per text.")
    embedding_dimensions: int = Field(
        default=1_536, ge=1, le=65_536, description="Numbers per vector of models whose size is not OpenAI's own."
    )
    answer_tokens_median: float = Field(default=40.0, gt=0, description="Length of free text: lognormal median.")
    answer_tokens_sigma: float = Field(default=0.5, ge=0, description="Length of free text: lognormal sigma.")

    latency_median_s: float = Field(default=0.0, ge=0, description="Lognormal median, seconds; 0: none.")
    latency_sigma: float = Field(default=0.5, ge=0, description="Lognormal sigma of the latency.")
    token_s: float = Field(default=0.0, ge=0, description="Further seconds per output token.")

    faults: Annotated[dict[FaultKind, Share], BeforeValidator(_faults), AfterValidator(_at_most_all)] = Field(
        default_factory=dict, description="Share of the attempts per kind; a plain number is spread over all kinds."
    )
    drip_s: float = Field(default=20.0, ge=0, description="How long a dripping answer takes, seconds.")
    fault_retry_after_s: float = Field(default=1.0, ge=0, description="What an injected 429 asks to wait, seconds.")

    @field_validator("debit_at")
    @classmethod
    def _only_what_is_not_reserved(cls, when: str, info: ValidationInfo) -> str:
        if when == "end" and info.data.get("debit", "actual") != "actual":
            raise ValueError("end goes with debit actual: the other rules take max_tokens at admission")
        return when
