"""``batch-llm limits``: who uses which limit now, and changing the limits while they are used.

Belongs here: looking once or every second, JSON, reading changes. Not here: options (limits_app.py), words and drawing
(limits_page.py), the limits themselves (limiter).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from batch_llm.cli.speech import print_json, say
from batch_llm.cli.watch import DUMB
from batch_llm.errors import ConfigurationError, LimiterError

if TYPE_CHECKING:
    from batch_llm.config.settings import Settings
    from batch_llm.limiter.base import PoolChange
    from batch_llm.limiter.control import LimitsView

__all__ = ["as_json", "named_usd", "number_or_none", "pairs", "set_caps", "set_limits", "show_limits"]

REFRESH_S = 1.0
NONE = "none"  # takes a change back


def show_limits(pool: str | None, *, watch: bool, json: bool) -> None:
    """``batch-llm limits [POOL]``: the page once, or every second until Ctrl-C."""
    settings = _settings()
    if not watch:
        _print(_look(settings, pool), json=json)
        return
    try:
        asyncio.run(_watch(settings, pool, json=json))
    except KeyboardInterrupt:
        return  # how one stops watching


def set_limits(pool: str, change: PoolChange, *, json: bool) -> None:
    """``batch-llm limits set``: change a pool, then show it."""
    from batch_llm.limiter.control import change_pool

    if not (change.limits or change.user_weights or change.resume):
        raise ConfigurationError(
            "nothing to change: give NAME=VALUE such as requests_per_minute=5000, --user NAME=WEIGHT or --resume"
        )
    settings = _settings()
    _print(asyncio.run(change_pool(settings, pool, change)), json=json)


def set_caps(caps: dict[str, Decimal | None], *, json: bool) -> None:
    """``batch-llm limits budget``: set caps on money, then show them."""
    from batch_llm.limiter.control import change_caps

    if not caps:
        raise ConfigurationError("nothing to change: give --per-day USD, --user NAME=USD or --user-per-day NAME=USD")
    _print(asyncio.run(change_caps(_settings(), caps)), json=json)


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """``NAME=VALUE`` texts by name. Raises `ConfigurationError` for one that is none, or a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value:
            raise ConfigurationError(f"{text!r} is not {what}")
        if name in found:
            raise ConfigurationError(f"{name!r} is given twice")
        found[name] = value
    return found


def number_or_none(text: str, name: str) -> float | None:
    """A limit or weight as typed; None for ``none``."""
    if text.lower() == NONE:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{name} must be a number, or `none` to take a change back, got {text!r}") from None


def named_usd(text: str, name: str) -> Decimal | None:
    """An amount of US dollars as typed; None for ``none``."""
    if text.lower() == NONE:
        return None
    try:
        return Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise ConfigurationError(f"{name} must be US dollars like 25 or 0.50, or `none`, got {text!r}") from None


def as_json(view: LimitsView) -> dict[str, Any]:
    """The page for ``--json``; limits are called as in the providers file."""
    pools = []
    for pool in view.pools:
        plain = asdict(pool)
        limits = [{**one, "name": _declared_name(one["name"])} for one in plain.pop("dimensions")]
        pools.append({"pool": plain.pop("pool"), "limits": limits, **plain})
    return {"where": view.where, "pools": pools, "budgets": [asdict(scope) for scope in view.budgets]}


def _declared_name(dimension: str) -> str:
    if dimension == "concurrency":
        return "max_concurrency"
    return dimension if dimension.endswith("_per_day") else f"{dimension}_per_minute"


def _settings() -> Settings:
    from batch_llm.config.settings import Settings

    return Settings.from_environment()


def _look(settings: Settings, pool: str | None) -> LimitsView:
    from batch_llm.limiter.control import look

    try:
        return asyncio.run(look(settings, pool))
    except LimiterError as error:
        raise ConfigurationError(str(error)) from error


def _print(view: LimitsView, *, json: bool) -> None:
    from batch_llm.cli.limits_page import drawn, in_words

    if json:
        print_json(as_json(view))
    elif _redraws():
        from rich.console import Console

        Console(highlight=False, markup=False).print(drawn(view))
    else:
        say(in_words(view))


async def _watch(settings: Settings, pool: str | None, *, json: bool) -> None:
    from batch_llm.limiter.control import look

    view = await look(settings, pool)  # what is wrong from the start ends the command
    with ExitStack() as stack:
        show = _live(stack, view) if _redraws() and not json else lambda view, _: _print(view, json=json)
        trouble = ""
        while True:
            show(view, trouble)
            await asyncio.sleep(REFRESH_S)
            try:
                view, trouble = await look(settings, pool), ""
            except LimiterError as error:
                trouble = str(error)


def _live(stack: ExitStack, view: LimitsView) -> Callable[[LimitsView, str], None]:
    from rich.console import Console
    from rich.live import Live

    from batch_llm.cli.limits_page import drawn

    console = Console(highlight=False, markup=False)
    live = stack.enter_context(Live(drawn(view), console=console, auto_refresh=False, redirect_stdout=False))
    return lambda view, trouble: live.update(drawn(view, trouble), refresh=True)


def _redraws() -> bool:
    """Whether stdout is a terminal that can redraw and colour."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in DUMB
