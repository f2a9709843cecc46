"""The sensor `catalog`: shows inputs in BigQuery as they are now, also before and between runs.

Belongs here: when, and which inputs. Not here: what is shown (assets/tables.py). It looks only where a look costs
nothing, so it ships running.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg

from assets.declared import DeclaredJobs
from assets.tables import observation, source_key, source_of
from batch_llm.errors import BatchLLMError
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["Shown", "catalog_sensor"]

EVERY_S = 120
LOOKS_MAX = 50  # per tick, a fraction of a second each; the next tick goes on with the others


@dataclass(frozen=True, slots=True)
class Shown:
    """The cursor: how each input looked when it was shown last, and where the next tick begins."""

    digests: Mapping[str, str] = field(default_factory=dict)
    next_input: int = 0  # 0-based

    @classmethod
    def read(cls, cursor: str | None) -> "Shown":
        """From the sensor's cursor."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def write(self) -> str:
        """As the sensor's cursor."""
        return json.dumps({"digests": dict(sorted(self.digests.items())), "next_input": self.next_input})


def catalog_sensor(declared_jobs: DeclaredJobs) -> dg.SensorDefinition:
    """The one sensor for all inputs that a job file names; tables of a `watch` are shown by the runs they start."""
    named = [declared for declared in declared_jobs.jobs if declared.job.watch is None]
    inputs = {declared.resolve(source_of(declared)): source_key(declared, declared_jobs.root) for declared in named}

    @dg.sensor(
        name="catalog",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Shows columns, rows and bytes of inputs in BigQuery when they have changed.",
    )
    def catalog(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
        try:
            store = open_store(settings.create())
        except BatchLLMError as error:
            return dg.SkipReason(f"could not look at the inputs: {error}")
        if store.settings.bigquery_dataset is None or not inputs:
            return dg.SkipReason("no input is in BigQuery")
        shown = Shown.read(context.cursor)
        digests, events, said = dict(shown.digests), list[dg.AssetObservation](), list[str]()
        ordered = list(inputs.items())
        start = shown.next_input % len(ordered)
        chosen = (ordered[start:] + ordered[:start])[:LOOKS_MAX]
        for reference, key in chosen:
            try:
                for seen in observation(store, key, reference):
                    digest = hashlib.blake2b(repr(sorted(seen.metadata.items())).encode(), digest_size=8).hexdigest()
                    if digests.get(reference) != digest:
                        digests[reference] = digest
                        events.append(seen)
            except BatchLLMError as error:
                said.append(str(error))
        cursor = Shown(digests, start + len(chosen)).write()
        reason = "; ".join(said) or f"none of {len(chosen)} inputs has changed"
        return dg.SensorResult(
            asset_events=events, cursor=cursor, skip_reason=None if events else dg.SkipReason(reason)
        )

    return catalog
