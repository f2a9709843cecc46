"""The resources of the Dagster code location: configuration plus a constructor of a plain batch_llm object.

Belongs here: fields and `create`. Not here: any logic; it runs and is tested in batch_llm, without Dagster.
"""

__all__: list[str] = []
