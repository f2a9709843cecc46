"""The Dagster code location: the only place that puts assets, resources and sensors together.

Belongs here: `build_defs` and the one `defs`. Not here: any logic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from assets.declared import broken_file_specs, default_job_files, load_declared
from assets.job_assets import catalog_of
from resources.journal import JournalResource
from resources.settings import SettingsResource
from resources.versions import check_versions
from resources.warehouse import WarehouseResource
from sensors.catalog import catalog_sensor
from sensors.dispatch import dispatch_sensor
from sensors.mirror import mirror_sensor
from sensors.notices import notice_sensors
from sensors.schedules import schedules_of
from sensors.watch import watch_sensors

__all__ = ["build_defs", "defs"]

ROOT = Path(__file__).resolve().parent


def build_defs(
    *,
    job_files: Sequence[Path] | None = None,
    root: Path = ROOT,
    settings: SettingsResource | None = None,
    **resources: Any,
) -> dg.Definitions:
    """The definitions of this code location.

    Args:
        job_files: The job files to declare; None: those of ``jobs/`` and the demo's.
        root: The folder that relative paths and the names of files start from.
        settings: Home and providers; None: from the environment.
        resources: More resources, or others in place of the usual ones, by name.
    """
    check_versions()
    declared = load_declared(default_job_files(root) if job_files is None else job_files, root)
    where = settings or SettingsResource(root=str(root))
    catalog = catalog_of(declared, where.declared_dataset)
    return dg.Definitions(
        assets=[*catalog.assets, *broken_file_specs(declared)],
        jobs=list(catalog.jobs),
        schedules=schedules_of(declared),
        sensors=[
            dispatch_sensor(declared, catalog.dispatched),
            mirror_sensor(declared),
            catalog_sensor(declared),
            *notice_sensors(),
            *watch_sensors(declared),
        ],
        resources={
            "settings": where,
            "warehouse": WarehouseResource(settings=where),
            "journal": JournalResource(settings=where),
            **resources,
        },
        executor=dg.in_process_executor,
    )


defs = build_defs()
