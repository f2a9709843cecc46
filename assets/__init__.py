"""The assets of the Dagster code location, and the Dagster jobs that start them.

Belongs here: what Dagster shows and runs: the assets per declared job, the family for jobs submitted at run time,
the jobs that plan or submit, and the mirror of runs made elsewhere. Not here: asking a model, limits, files
(batch_llm), configuration of those (resources), when something starts (sensors).
"""

__all__: list[str] = []
