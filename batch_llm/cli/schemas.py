"""``batch-llm schema [job|providers]``: the JSON Schema of the files that users write, for editors.

Belongs here: choosing and printing. Not here: the models (job/model.py, config/providers_file.py).
"""

from __future__ import annotations

from batch_llm.cli.speech import say
from batch_llm.errors import ConfigurationError

__all__ = ["print_schema"]


def print_schema(which: str) -> None:
    """The schema as indented JSON. Raises `ConfigurationError` for another word than `job` and `providers`."""
    import orjson

    if which == "providers":
        from batch_llm.config.providers_file import providers_json_schema

        schema = providers_json_schema()
    elif which == "job":
        from batch_llm.job.model import Job

        schema = Job.model_json_schema(by_alias=True)
    else:
        raise ConfigurationError(f"no schema {which!r}: say `batch-llm schema job` or `batch-llm schema providers`")
    say(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
