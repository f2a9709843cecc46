"""The providers file: which accounts answer, under which limits, at which prices.

Belongs here: reading the file, its rules, finding the pools of a model, resolving a pool's key (late). Not here: its
keys and their types (providers_model.py), HTTP (providers/), pacing (limiter/), the price list (pricing.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from batch_llm.config.problems import did_you_mean, error_for, explain
from batch_llm.config.provider_kinds import kind_named
from batch_llm.config.providers_model import Debit, LimitsSpec, PoolSpec, PricesSpec, ProvidersFile, ProviderSpec
from batch_llm.config.secrets import mask, resolve
from batch_llm.config.yaml_source import Place, Problem, YamlProblem, parse_yaml, read_text
from batch_llm.errors import ConfigurationError, JobFileError, ProvidersFileError, SecretError

__all__ = [
    "DEFAULT_PROVIDERS",
    "LimitsSpec",
    "PoolSpec",
    "PricesSpec",
    "ProviderSpec",
    "ProvidersFile",
    "api_key_of",
    "api_version_of",
    "base_url_of",
    "day_resets_of",
    "debit_of",
    "deployment_of",
    "find_pools",
    "headers_of",
    "idempotency_header_of",
    "know_keys",
    "load_providers",
    "location_of",
    "parse_providers",
    "project_of",
    "providers_json_schema",
    "structure_of",
]

DEFAULT_PROVIDERS = """\
providers:
  openai:
    kind: openai
    api_key: ${env:OPENAI_API_KEY}
    pools:
      - name: main
        models: ["*"]                # any model
        limits: unknown              # start low and adapt to what the provider says
  simulator:
    kind: simulator                  # answers made up on this machine; only for simulator/<model>
    pools:
      - name: main
        models: ["*"]
        limits: {requests_per_minute: 600, tokens_per_minute: 200000}
"""

NAMED_SIMULATOR = "simulator"
ANY_MODEL = "*"
# keys that one kind only has, and what they say
OWN_KEYS = {
    "deployment": ("azure", "deployments"),
    "api_version": ("azure", "versions of its API"),
    "project": ("google", "projects"),
    "location": ("google", "locations"),
}


def load_providers(path: Path | None) -> ProvidersFile:
    """Read a providers file; None: `DEFAULT_PROVIDERS`. Resolves no secret.

    Raises:
        ProvidersFileError: The file is missing or wrong; every problem is named with its line.
        SecretError: A literal stands where a reference must; never shows it.
    """
    if path is None:
        return parse_providers(DEFAULT_PROVIDERS, "default providers")
    try:
        text = read_text(path)
    except OSError as error:
        raise ProvidersFileError(
            f"{path}: cannot be read ({error.strerror}); BATCH_LLM_PROVIDERS must name a providers file, or be unset"
        ) from None
    except YamlProblem as error:
        raise ProvidersFileError(f"{path}:{error.line}: {error.reason}") from None
    return parse_providers(text, str(path))


def parse_providers(text: str, name: str) -> ProvidersFile:
    """As `load_providers`, from text; ``name`` stands in messages where the file's name would."""
    try:
        source = parse_yaml(text, name)
    except YamlProblem as error:
        raise ProvidersFileError(f"{name}:{error.line}: {error.reason}") from None
    if not isinstance(source.data, Mapping):
        raise ProvidersFileError(f"{name}: must be a mapping that begins with `providers:`")
    file: ProvidersFile | None = None
    try:
        file = ProvidersFile.model_validate(source.data)
        file._source = source
        problems = _rules(file)
    except ValidationError as error:
        problems = explain(error, ProvidersFile)
    if problems or file is None:
        raise error_for(problems, ProvidersFileError)(source.message(problems))
    return file


def find_pools(file: ProvidersFile, provider_name: str, model_name: str) -> tuple[ProviderSpec, tuple[PoolSpec, ...]]:
    """The provider, and all its pools that answer ``<provider_name>/<model_name>``, in the file's order; at least one.

    Raises:
        JobFileError: No such provider, or none of its pools has the model.
    """
    name = file.source.name
    provider = file.providers.get(provider_name)
    if provider is None:
        raise JobFileError(
            f"there is no provider {mask(provider_name)} in {name}{did_you_mean(provider_name, file.providers)} "
            f"(providers: {', '.join(file.providers)})"
        )
    for wanted in (model_name, ANY_MODEL):  # pools that name the model come before those for any
        pools = tuple(pool for pool in provider.pools if wanted in pool.models)
        if pools:
            return provider, pools
    models = [model for pool in provider.pools for model in pool.models]
    raise JobFileError(
        f"no pool of provider {provider_name!r} has the model {mask(model_name)} "
        f"({file.source.where(('providers', provider_name, 'pools'))}){did_you_mean(model_name, models)} "
        f"(models: {', '.join(models)}); name it in the pool whose limit it shares"
    )


def base_url_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """The pool's URL, else the provider's, else the kind's own; None: it has none."""
    rules, location = kind_named(provider.kind), location_of(provider, pool)
    own = rules.base_url_at(location) if rules.base_url_at and location else rules.base_url
    return pool.base_url or provider.base_url or own


def headers_of(provider: ProviderSpec, pool: PoolSpec) -> str:
    """Whose rate-limit headers this pool's answers carry: a word that `limiter.headers.HeaderReader` knows."""
    return pool.headers or kind_named(provider.kind).headers


def debit_of(provider: ProviderSpec, pool: PoolSpec) -> Debit:
    """What the provider takes off this pool's limit when a request comes in."""
    return pool.debit or kind_named(provider.kind).debit


def day_resets_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """The time zone at whose midnight this pool's limits per day begin anew; None: they refill evenly."""
    return pool.day_resets or kind_named(provider.kind).day_resets


def structure_of(provider: ProviderSpec, pool: PoolSpec) -> str:
    """How this pool's models are told the answer's schema: json_schema | json_object | prompt."""
    return pool.structured_output or provider.structured_output or kind_named(provider.kind).structure


def idempotency_header_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """The header that names an attempt, the pool's or else the provider's; None: none is sent."""
    return pool.idempotency_header or provider.idempotency_header


def deployment_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """The deployment that answers for the pool's model; None: it is called as the model is."""
    return pool.deployment or provider.deployment


def api_version_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """The version of the API; None: the kind's own way of asking without one."""
    return pool.api_version or provider.api_version


def project_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """The Google Cloud project that is asked; None: none is."""
    return pool.project or provider.project


def location_of(provider: ProviderSpec, pool: PoolSpec) -> str | None:
    """Where the project is asked."""
    return pool.location or provider.location


def api_key_of(
    provider_name: str, provider: ProviderSpec, pool: PoolSpec, environ: Mapping[str, str]
) -> SecretStr | None:
    """The pool's key, else the provider's, resolved now; None when the file names none.

    Raises:
        SecretError: The variable is not set; names it, the provider and what to do.
    """
    reference = pool.api_key or provider.api_key
    if reference is None:
        return None
    try:
        return resolve(reference, environ, needed_by=f"provider {provider_name!r}")
    except SecretError as error:
        reason = str(error)
    raise SecretError(f"{reason}. To try without a key, use a model of the simulator: simulator/<model>")


def know_keys(path: Path | None, environ: Mapping[str, str]) -> None:
    """Make `scrub` hide each key of the providers file that is set, for who shows what is stored and calls nobody."""
    try:
        file = load_providers(path)
    except ConfigurationError:  # told by the commands that need it
        return
    for name, provider in file.providers.items():
        for pool in provider.pools:
            with suppress(ConfigurationError):
                api_key_of(name, provider, pool, environ)


def providers_json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the providers file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ProvidersFile.model_json_schema(),
        "title": "batch_llm providers file",
    }


def _rules(file: ProvidersFile) -> list[Problem]:
    problems: list[Problem] = []
    for name, provider in file.providers.items():
        path: Place = ("providers", name)
        problems += _kind_rules(name, provider, path)
        problems += _pool_rules(provider, (*path, "pools"), file)
    return problems


def _kind_rules(name: str, provider: ProviderSpec, path: Place) -> list[Problem]:
    problems = []
    simulated = provider.kind == "simulator"
    if simulated != (name == NAMED_SIMULATOR):
        problems.append(
            Problem(
                (*path, "kind"),
                f"kind simulator and the name {NAMED_SIMULATOR!r} go together, so that no job is answered by made-up "
                "answers unless its model says simulator/",
            )
        )
    if provider.simulator is not None and (not simulated or provider.base_url):
        problems.append(
            Problem(
                (*path, "simulator"), "these settings are for kind simulator without base_url, which is started here"
            )
        )
    return [*problems, *_endpoint_rules(provider, path)]


def _endpoint_rules(provider: ProviderSpec, path: Place) -> Iterator[Problem]:
    """What the kind wants and does not want on the provider and its pools."""
    rules, parts = kind_named(provider.kind), (provider, *provider.pools)
    if rules.api_key == "refused" and any(part.api_key for part in parts):
        yield Problem((*path, "api_key"), f"kind {rules.name} takes no key; remove it")
    keyless = (pool for pool in provider.pools if not (rules.project_for_key and project_of(provider, pool)))
    if rules.api_key == "required" and not all(pool.api_key or provider.api_key for pool in keyless):
        variable = f"{rules.name.upper()}_API_KEY"
        yield Problem((*path, "api_key"), f"is required for kind {rules.name}: api_key: ${{env:{variable}}}")
    if rules.base_url_example and not all(base_url_of(provider, pool) for pool in provider.pools):
        yield Problem((*path, "base_url"), f"is required for kind {rules.name}: base_url: {rules.base_url_example}")
    for key, (kind, plural) in OWN_KEYS.items():
        if key not in rules.own_keys and any(getattr(part, key) for part in parts):
            yield Problem((*path, key), f"only kind {kind} has {plural}; remove it")
    for number, pool in enumerate(provider.pools):
        yield from _project_rules(provider, pool, path)
        if deployment_of(provider, pool) and (len(pool.models) > 1 or ANY_MODEL in pool.models):
            yield Problem((*path, "pools", number, "models"), "a deployment is of one model: name that one")


def _project_rules(provider: ProviderSpec, pool: PoolSpec, path: Place) -> Iterator[Problem]:
    """A project is asked somewhere, and signs in itself."""
    project, location = project_of(provider, pool), location_of(provider, pool)
    if project and not location:
        yield Problem((*path, "location"), "is required beside `project`: location: global")
    if location and not project:
        yield Problem((*path, "project"), "is required beside `location`: the id of a Google Cloud project")
    if project and (pool.api_key or provider.api_key):
        yield Problem(
            (*path, "api_key"), "Vertex AI (`project`) signs in with application-default credentials; remove the key"
        )


def _pool_rules(provider: ProviderSpec, path: Place, file: ProvidersFile) -> list[Problem]:
    problems = []
    pools: dict[str, int] = {}
    for number, pool in enumerate(provider.pools):
        here: Place = (*path, number)
        if pool.name in pools:
            problems.append(Problem((*here, "name"), f"two pools are called {pool.name!r}; give each its own name"))
        pools.setdefault(pool.name, number)
        if ANY_MODEL in pool.models and provider.kind != "simulator" and pool.limits != "unknown":
            problems.append(
                Problem((*here, "models"), '"*" needs `limits: unknown`: different models, different limits')
            )
        problems += _limit_rules(pool, here)
    return [*problems, *_shared_model_rules(provider, path, file), *_deployment_rules(provider, path, file)]


def _shared_model_rules(provider: ProviderSpec, path: Place, file: ProvidersFile) -> Iterator[Problem]:
    """Pools of one model are different accounts that are asked alike; a limit named twice would be used twice."""
    first: dict[str, tuple[int, int]] = {}
    for number, pool in enumerate(provider.pools):
        for position, model in enumerate(pool.models):
            before = first.setdefault(model, (number, position))
            if before == (number, position):
                continue
            here: Place = (*path, number, "models", position)
            stands = f"the model {mask(model)} stands here and in "
            stands += file.source.where((*path, before[0], "models", before[1]))
            other = provider.pools[before[0]]
            if other is pool or _asked_at(provider, other, model) == _asked_at(provider, pool, model):
                yield Problem(here, f"{stands}: one account, one limit; pools of one model need an account each")
            elif structure_of(provider, other) != structure_of(provider, pool):
                yield Problem(here, f"{stands}: pools of one model need the same structured_output")


def _deployment_rules(provider: ProviderSpec, path: Place, file: ProvidersFile) -> Iterator[Problem]:
    """A deployment is of one model; named for two, its limit would be used twice."""
    first: dict[tuple[str, str], tuple[str, Place]] = {}
    for number, pool in enumerate(provider.pools):
        for position, model in enumerate(pool.models):
            deployment = _deployment_at(provider, pool, model)
            if deployment is None or model == ANY_MODEL:
                continue
            here: Place = (*path, number, "models", position)
            other, there = first.setdefault(deployment, (model, here))
            if other != model:
                yield Problem(
                    here,
                    f"the deployment {mask(deployment[1])} answers for {mask(model)} here and for {mask(other)} in "
                    f"{file.source.where(there)}: it is of one model and has one limit; give each its `deployment`",
                )


def _asked_at(provider: ProviderSpec, pool: PoolSpec, model: str) -> tuple[object, ...]:
    """Which account a pool is; each pool of a simulator that is started here has one of its own."""
    deployment = _deployment_at(provider, pool, model)
    if deployment is not None:
        return deployment
    where = base_url_of(provider, pool)
    own = pool.name if provider.kind == "simulator" and where is None else None
    key = pool.api_key or provider.api_key
    return (own, where, key, project_of(provider, pool), location_of(provider, pool))


def _deployment_at(provider: ProviderSpec, pool: PoolSpec, model: str) -> tuple[str, str] | None:
    """Where limits are a deployment's: whose, and its name. All keys of a resource ask the same ones."""
    resource, where = kind_named(provider.kind).resource, base_url_of(provider, pool)
    if resource is None or where is None:
        return None
    return resource(where), (deployment_of(provider, pool) or model).lower()


def _limit_rules(pool: PoolSpec, path: Place) -> Iterator[Problem]:
    """What no key shows alone."""
    if pool.window_s is not None and pool.burst_s > pool.window_s:
        yield Problem(
            (*path, "burst_s"),
            f"{pool.burst_s:g} s cannot be saved up where the provider counts in windows of {pool.window_s:g} s "
            "(window_s): unused rate ends with its window; give one of the two",
        )
    if pool.limits == "unknown":
        return
    for counted in ("requests", "tokens"):
        second, minute = f"{counted}_per_second", f"{counted}_per_minute"
        if getattr(pool.limits, second) is not None and getattr(pool.limits, minute) is not None:
            yield Problem((*path, "limits", second), f"{minute} is given as well: it is one limit, give one of the two")
