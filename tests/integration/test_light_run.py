"""What a run over several slices neither loads nor keeps."""

from __future__ import annotations

import gc
import re

from batch_llm import wiring
from batch_llm.engine.events import SlicePublished
from batch_llm.engine.publishing import OPEN_SLICES_MAX
from batch_llm.engine.slice_work import SliceWork
from tests.integration.cli_lab import CommandLine
from tests.integration.lab import Lab


async def test_neither_a_run_nor_its_plan_loads_pandas(lab: Lab) -> None:
    """It takes 43 MB, and an import in the middle of a run holds up all rows."""
    lab.table(30)
    cli = CommandLine(lab, {"PYTHONPROFILEIMPORTTIME": "1"})
    job = cli.job_file(slices={"rows": 10})
    async with lab.simulator() as simulator:
        for command in (("run", job), ("plan", job)):  # the plan finds an output
            said = await cli.run(*command)
            assert (said.code, simulator.stats()["accepted"]) == (0, 30)
            loaded = set(re.findall(r"^import time:.*\| +([a-z_]+)$", said.err, re.MULTILINE))
            assert {"batch_llm", "duckdb", "pyarrow"} <= loaded
            assert not {"pandas", "polars", "openai"} & loaded


async def test_a_published_slice_is_freed_without_the_garbage_collector(lab: Lab) -> None:
    """That is called rarely, and a slice knows something of each of its rows."""
    lab.table(60)
    left: list[int] = []

    def look(event: object) -> None:
        if isinstance(event, SlicePublished):
            left.append(sum(type(each) is SliceWork for each in gc.get_objects()))

    async with lab.simulator():
        gc.disable()
        try:
            async with wiring.engine(lab.settings, lab.job(slices={"rows": 5}), listener=look) as engine:
                await engine.run()
        finally:
            gc.enable()
    assert len(left) == 12
    assert left[-1] <= OPEN_SLICES_MAX
