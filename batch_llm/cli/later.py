"""Commands that are promised and have not landed.

Belongs here: their names and the one answer they give. Not here: a command that works (app.py).
"""

from __future__ import annotations

from typing import NoReturn

import typer

from batch_llm.errors import NotYetAvailable

__all__ = ["LATER", "register"]

LATER = {  # name: what to use instead
    "submit": "`batch-llm run`, or the Dagster job `submit_job`",
    "watch": "the lines of `batch-llm run` where it runs, or `batch-llm status`",
    "cancel": "Ctrl-C where it runs, or Terminate in the Dagster UI",
    "report": "`batch-llm status` (rows, cost), `batch-llm failed`, and `batch-llm export`: the llm_ columns of the "
    "output table hold tokens, cost and time of every row",
}


def register(app: typer.Typer) -> None:
    """Add every such command, hidden from ``--help``; it takes any arguments and raises `NotYetAvailable`."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for name in LATER:
        app.command(name, hidden=True, context_settings=settings)(_refuse)


def _refuse(context: typer.Context) -> NoReturn:
    instead = LATER[str(context.info_name)]
    raise NotYetAvailable(
        f"`batch-llm {context.info_name}` is not yet available. Use {instead}; `batch-llm --help` lists what there is"
    )
