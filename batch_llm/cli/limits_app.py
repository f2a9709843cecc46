"""``batch-llm limits`` and what stands below it: names, options, help.

Belongs here: the command group. Not here: doing anything (limits.py), other commands (app.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context

__all__ = ["budget", "limits", "set_", "show"]


class _ShowsByDefault(TyperGroup):
    """`limits` alone, or with a pool or options of `show`, is `limits show`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args[:1] != ["--help"] and (not args or args[0] not in self.commands):
            args = ["show", *args]
        return super().parse_args(ctx, args)


limits = typer.Typer(cls=_ShowsByDefault, rich_markup_mode=None, add_completion=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Only JSON on stdout.")]


@limits.callback()
def _help() -> None:
    """Who uses which limit now; change limits, weights and budgets while they are used.

    `batch-llm limits [POOL]` is short for `batch-llm limits show [POOL]`.
    """


@limits.command()
def show(
    pool: Annotated[
        str | None,
        typer.Argument(metavar="POOL", help="As provider:pool. Without: all.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Each pool's limits, who shares them, and the budgets. Starts nothing."""
    from batch_llm.cli.limits import show_limits

    show_limits(pool, watch=watch, json=json)


@limits.command("set")
def set_(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="As provider:pool.", show_default=False)],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE",
            help="A limit as in the providers file: requests_per_minute=5000; `none`: as declared again.",
            show_default=False,
        ),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="NAME=WEIGHT", help="A user's weight in this pool; `none`: 1 again."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="End a pause and the slowing down now.")] = False,
    json: JsonOption = False,
) -> None:
    """Change a pool for all who use it, within a second. It stays until it is changed back."""
    from batch_llm.cli.limits import number_or_none, pairs, set_limits
    from batch_llm.limiter.base import PoolChange

    given = pairs(values or (), "NAME=VALUE such as requests_per_minute=5000")
    weights = pairs(user or (), "NAME=WEIGHT such as alice=2")
    change = PoolChange(
        limits={name: number_or_none(value, name) for name, value in given.items()},
        user_weights={name: number_or_none(value, f"the weight of {name!r}") for name, value in weights.items()},
        resume=resume,
    )
    set_limits(pool, change, json=json)


@limits.command()
def budget(
    per_day: Annotated[
        str | None, typer.Option("--per-day", metavar="USD", help="What everybody may spend in a day (UTC).")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="NAME=USD", help="What a user may spend in all.")
    ] = None,
    user_per_day: Annotated[
        list[str] | None,
        typer.Option("--user-per-day", metavar="NAME=USD", help="What a user may spend in a day (UTC)."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Cap what may be spent, on top of the jobs' own budgets. `none` takes a cap away."""
    from batch_llm.cli.limits import named_usd, pairs, set_caps
    from batch_llm.limiter.ledger import DAY_CAP, user_cap, user_day_cap

    caps = {} if per_day is None else {DAY_CAP: named_usd(per_day, "--per-day")}
    for name, amount in pairs(user or (), "NAME=USD such as alice=100").items():
        caps[user_cap(name)] = named_usd(amount, f"the cap of {name!r}")
    for name, amount in pairs(user_per_day or (), "NAME=USD such as alice=10").items():
        caps[user_day_cap(name)] = named_usd(amount, f"the daily cap of {name!r}")
    set_caps(caps, json=json)
