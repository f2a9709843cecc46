"""Commands that are promised and have not landed.

Belongs here: their names and the one answer they give. Not here: a command that works (app.py).
"""

from __future__ import annotations

from typing import NoReturn

import typer

from batch_llm.errors import NotYetAvailable

__all__ = ["LATER", "register"]

LATER = ("submit", "watch", "cancel", "report")


def register(app: typer.Typer) -> None:
    """Add every such command, hidden from ``--help``; it takes any arguments and raises `NotYetAvailable`."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for name in LATER:
        app.command(name, hidden=True, context_settings=settings)(_refuse)


def _refuse(context: typer.Context) -> NoReturn:
    raise NotYetAvailable(f"`batch-llm {context.info_name}` is not yet available. `batch-llm --help` lists what is")
