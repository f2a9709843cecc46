"""Where a model's requests go: its provider, its pool, and the kind that says how to ask there.

Belongs here: from the providers file and a job's model to what a kind's providers are made of, what the kind cannot do
of what a job asks, starting the simulator for it. Not here: the file's own rules (config/providers_file.py), what
guards the calls (wiring.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr, ValidationError

from batch_llm.clock import Clock
from batch_llm.config.problems import explain
from batch_llm.config.provider_kinds import kind_named
from batch_llm.config.providers_file import (
    PoolSpec,
    ProvidersFile,
    ProviderSpec,
    api_version_of,
    base_url_of,
    deployment_of,
    find_pools,
    idempotency_header_of,
    load_providers,
    location_of,
    project_of,
    structure_of,
)
from batch_llm.config.secrets import mask
from batch_llm.config.settings import Settings
from batch_llm.config.yaml_source import Place, Problem, Source, dotted
from batch_llm.errors import ConfigurationError, JobFileError, ProvidersFileError
from batch_llm.job.load import DeclaredJob
from batch_llm.job.model import Job
from batch_llm.limiter.base import Limits
from batch_llm.limiter.debit import midnight_s
from batch_llm.limiter.declared import limits_of
from batch_llm.limiter.views import CHANGEABLE
from batch_llm.providers.account import Account
from batch_llm.providers.kind import ProviderKind
from batch_llm.providers.structured_output import StructureMode

if TYPE_CHECKING:
    from batch_llm.simulator import SimulatorConfig

__all__ = ["Target", "job_targets", "simulated", "stored_targets", "targets_of"]

SIMULATED_LIMITS = (*CHANGEABLE, "max_concurrency", "window_s", "debit")  # the simulator calls them by the same names


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model's requests go."""

    provider_name: str
    model_name: str
    provider: ProviderSpec
    pool: PoolSpec
    source: Source  # of the providers file

    def __post_init__(self) -> None:
        if self.is_simulated_here:
            _simulator_config(self, datetime.now(UTC))  # what is wrong with it is told before a run begins

    @property
    def is_simulated_here(self) -> bool:
        """Whether the provider is a simulator that is to be started in this process."""
        return self.provider.kind == "simulator" and base_url_of(self.provider, self.pool) is None

    @property
    def counted_as(self) -> str:
        """The model by whose encoding prompts are counted. Of the simulator none: it bills bytes, whatever the name."""
        return "" if self.provider.kind == "simulator" else self.model_name

    @property
    def limits(self) -> Limits:
        """What the pool allows."""
        return limits_of(self.provider_name, self.provider, self.pool)

    @property
    def structure(self) -> StructureMode:
        """How the model is told an answer's schema."""
        return StructureMode(structure_of(self.provider, self.pool))

    @property
    def kind(self) -> ProviderKind:
        """How to ask there."""
        found = kind_named(self.provider.kind)
        if not isinstance(found, ProviderKind):
            raise ConfigurationError(
                f"the provider kind {found.name!r} must be a ProviderKind, so that it can be asked"
            )
        return found

    @property
    def price_list(self) -> str:
        """Whose prices the price list is asked for."""
        return self.kind.price_list or self.provider_name

    def account(self, api_key: SecretStr | None = None, base_url: str | None = None) -> Account:
        """What the kind's providers are made of; ``base_url``: in the place of the file's."""
        deployment = deployment_of(self.provider, self.pool) or self.model_name
        return Account(
            self.provider_name,
            base_url or base_url_of(self.provider, self.pool) or "",
            api_key,
            self.structure,
            idempotency_header_of(self.provider, self.pool),
            deployment if "deployment" in self.kind.own_keys else None,
            api_version_of(self.provider, self.pool),
            project_of(self.provider, self.pool),
            location_of(self.provider, self.pool),
        )


def targets_of(settings: Settings, model: str) -> tuple[Target, ...]:
    """Where ``model`` (provider name / model) is asked: every pool that has it. Raises `ConfigurationError`."""
    provider_name, _, model_name = model.partition("/")
    file = load_providers(settings.providers_path)
    provider, pools = find_pools(file, provider_name, model_name)
    return tuple(Target(provider_name, model_name, provider, pool, file.source) for pool in pools)


def job_targets(settings: Settings, declared: DeclaredJob) -> tuple[Target, ...]:
    """Where a job's model is asked: every pool that has it, at least one.

    Raises `JobFileError` for what its kind of provider cannot do, or that of a model in `fallback`, with its line.
    """
    file, job = load_providers(settings.providers_path), declared.job
    provider, pools = declared.pools(file)
    targets = tuple(Target(job.provider_name, job.model_name, provider, pool, file.source) for pool in pools)
    problems = list(_kind_problems(targets[0], job))
    for number, model in enumerate(job.fallback):
        problems += _fallback_problems(file, declared.asking(model).job, ("fallback", number))
    if problems:
        raise JobFileError(declared.source.message(problems))
    return targets


def stored_targets(settings: Settings, declared: DeclaredJob) -> tuple[Target, ...]:
    """Where the stored answers of a job came from, at least one; they may be read whatever can be asked there today.

    Of a model that no pool has any more: the provider's pools, which say how it writes, but not their own prices.
    Raises `JobFileError` when there is no such provider.
    """
    file, job = load_providers(settings.providers_path), declared.job
    try:
        provider, pools = find_pools(file, job.provider_name, job.model_name)
    except JobFileError:
        if job.provider_name not in file.providers:
            raise
        provider = file.providers[job.provider_name]
        pools = tuple(pool.model_copy(update={"prices": None}) for pool in provider.pools)
    return tuple(Target(job.provider_name, job.model_name, provider, pool, file.source) for pool in pools)


def _fallback_problems(file: ProvidersFile, job: Job, path: Place) -> Iterator[Problem]:
    """The same of a model in `fallback`, which stands at ``path``; ``job``: as if it named that model."""
    try:
        provider, pools = find_pools(file, job.provider_name, job.model_name)
    except JobFileError as error:
        yield Problem(path, str(error))
        return
    target = Target(job.provider_name, job.model_name, provider, pools[0], file.source)
    for problem in _kind_problems(target, job):
        yield Problem(path, f"{mask(job.model)} cannot answer for this job: {dotted(problem.path)}: {problem.reason}")


def _kind_problems(target: Target, job: Job) -> Iterator[Problem]:
    """What the job asks for and the kind of provider that its model names cannot do."""
    kind = target.kind
    who = f"provider {job.provider_name!r} (kind {kind.name})"
    if job.is_embedding and kind.embeddings is None:
        yield Problem(("model",), f"{who} has no embeddings")
    if job.images and kind.image_rules(target.account(), target.model_name) is None:
        yield Problem(("images",), f"{who} takes no images; remove the key, or take another model")
    cannot = {**kind.cannot, **kind.cannot_for(target.model_name, job.params.model_dump(exclude_none=True))}
    for refused, why in cannot.items():
        name, _, value = refused.partition("=")
        given = getattr(job.params, name)
        if given is not None and (not value or str(given) == value):
            yield Problem(("params", name), f"{who} cannot do this: {why}; " + ("change it" if value else "remove it"))
    for name, most in kind.most.items():
        given = getattr(job.params, name)
        if given is not None and given > most:
            yield Problem(("params", name), f"{who} takes at most {most:,.12g}, got {given:,.12g}")
    for name in kind.needs:
        if not job.is_embedding and getattr(job.params, name) is None:
            yield Problem(("params", name), f"{who} wants it with every request; give it")


@asynccontextmanager
async def simulated(target: Target, clock: Clock) -> AsyncIterator[str]:
    """The provider simulator in this process, held to the pool's own limits."""
    from batch_llm.simulator import Simulator

    async with Simulator(_simulator_config(target, clock.now()), clock=clock) as simulator:
        yield simulator.base_url


def _simulator_config(target: Target, now: datetime) -> SimulatorConfig:
    """An account with the pool's limits, and what the file says of the simulator. Raises `ProvidersFileError`."""
    from batch_llm.simulator import SimulatorConfig

    limits, own = target.limits, target.provider.simulator or {}
    declared = {name: getattr(limits, name) for name in SIMULATED_LIMITS}
    if limits.day_resets is not None:
        declared["day_resets_s"] = midnight_s(limits.day_resets, now)
    if limits.burst_s:
        declared["burst_s"] = limits.burst_s
    try:
        return SimulatorConfig.model_validate({n: value for n, value in (declared | own).items() if value is not None})
    except ValidationError as error:
        problems = explain(error, SimulatorConfig)
    here = ("providers", target.provider_name)
    placed = [
        replace(each, path=(*here, "simulator", *each.path))
        if each.path[:1] and each.path[0] in own
        else Problem((*here, "pools"), f"the simulator cannot do this: {dotted(each.path)} {each.reason}")
        for each in problems
    ]
    raise ProvidersFileError(target.source.message(placed))
