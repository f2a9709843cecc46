"""The limits as a page: the words, then the same words as plain text or for a terminal.

Belongs here: wording and drawing. Not here: looking (limiter/control.py), when it is drawn anew (limits.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_llm.cli.speech import duration, number, one_line, table, usd
from batch_llm.limiter.base import DimensionView, PoolView
from batch_llm.limiter.control import LimitsView
from batch_llm.limiter.ledger import ScopeView

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["Section", "drawn", "in_words", "sections"]

NOBODY = "nobody"
BAR_WIDTH = 20
NEARLY_FULL = 0.985
SCOPE_OF_A_DAY = re.compile(r"(?:user:(?P<user>.*):|day:)(?P<date>\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the page."""

    title: str
    state: str  # of a pool: nobody, in use, paused for .., slowed down; "" where there is none
    remark: str  # a sentence, or nothing
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    filled: tuple[float | None, ...] = ()  # per row: part of the limit in use, 0 to 1, for a bar


def sections(view: LimitsView) -> Iterator[Section]:
    """The page, top to bottom."""
    for pool in view.pools:
        yield _limits_section(pool)
        if pool.tenants:
            yield _tenants_section(pool)
    budgets = [scope for scope in view.budgets if scope.cap_usd is not None or scope.spent_usd or scope.reserved_usd]
    if budgets:
        yield _money_section(budgets)


def in_words(view: LimitsView) -> str:
    """The page as plain text, without colours and bars."""
    blocks = [_where(view)]
    for section in sections(view):
        headed = " - ".join(part for part in (section.title, section.state) if part)
        lines = [f"{headed}: {section.remark}" if section.remark else headed] if headed else []
        blocks.append("\n".join([*lines, table(section.headers, section.rows)]))
    return "\n\n".join(blocks)


def drawn(view: LimitsView, trouble: str = "") -> Group:
    """The page for a terminal. ``trouble``: why it is not up to date."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(trouble or _where(view), style="red" if trouble else "dim")]
    for section in sections(view):
        parts += [Text(""), *_drawn_section(section)]
    return Group(*parts)


def _where(view: LimitsView) -> str:
    if view.where is None:
        return "Nobody is calling: these are the limits as declared."
    return f"Shared by all who use {view.where}."


# ---- words


def _limits_section(pool: PoolView) -> Section:
    headers = ("limit", "declared", "in force", "used now", "of it", "")
    rows = tuple(
        (
            _limit_name(one),
            "unknown" if one.declared is None else number(one.declared),
            number(_rounded(one.in_force)),
            number(_rounded(one.used_now)),
            f"{_used(one):.0%}",
            _origin(one),
        )
        for one in pool.dimensions
    )
    return Section(pool.pool, _state(pool), pool.why, headers, rows, tuple(_used(one) for one in pool.dimensions))


def _tenants_section(pool: PoolView) -> Section:
    headers = ("user", "its weight", "job", "its weight", "lane", "share", "rows ready", "processes")
    rows = tuple(
        (
            one_line(one.user, 24),
            f"{one.user_weight:g}",
            one_line(one.job, 40),
            f"{one.job_weight:g}",
            one.priority,
            f"{one.share:.0%}",
            f"{one.waiting:,}",
            f"{one.processes:,}",
        )
        for one in pool.tenants
    )
    return Section("", "", "", headers, rows, tuple(one.share for one in pool.tenants))


def _money_section(budgets: list[ScopeView]) -> Section:
    rows = tuple(
        (
            _scope(one.scope),
            "no cap" if one.cap_usd is None else usd(one.cap_usd),
            usd(one.spent_usd),
            usd(one.reserved_usd),
            "" if one.cap_usd is None else f"{_money_used(one):.0%}",
        )
        for one in budgets
    )
    filled = tuple(None if one.cap_usd is None else _money_used(one) for one in budgets)
    return Section("money", "", "", ("of", "cap", "spent", "reserved", "of it"), rows, filled)


def _state(pool: PoolView) -> str:
    if pool.paused_for_s > 0:
        return f"paused for {duration(pool.paused_for_s)}"
    if pool.factor < 0.999:
        return f"slowed down to {pool.factor:.0%}"
    return "in use" if pool.tenants else NOBODY


def _limit_name(one: DimensionView) -> str:
    if one.name == "concurrency":
        return "requests at once"
    name = one.name if one.name.endswith("_per_day") else f"{one.name}_per_minute"
    return name.replace("_", " ")


def _origin(one: DimensionView) -> str:
    """Why the limit in force is not the declared one."""
    if one.changed_by_hand:
        return "changed by hand"
    differs = one.declared is None or abs(one.in_force - one.declared) > 1e-3 * one.declared
    return "learned from the provider" if one.learned and differs else ""


def _scope(scope: str) -> str:
    of_a_day = SCOPE_OF_A_DAY.fullmatch(scope)
    if of_a_day is not None:
        return f"{of_a_day['user'] or 'everybody'} on {of_a_day['date']} (UTC)"
    kind, _, name = scope.partition(":")
    return f"{name}, in all" if kind == "user" else f"run {name}"


def _used(one: DimensionView) -> float:
    return one.used_now / one.in_force if one.in_force > 0 else 0.0


def _money_used(one: ScopeView) -> float:
    taken = one.spent_usd + one.reserved_usd
    return float(taken / one.cap_usd) if one.cap_usd else float(bool(taken))


def _rounded(value: float) -> float:
    """A rate without digits that nobody wants: 0.5, 12.3, 950, 1,203."""
    return round(value) if value >= 100 else round(value, 1)


# ---- drawing


def _drawn_section(section: Section) -> Iterator[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if section.title:
        state = f"  {section.state}" if section.state else ""
        yield Text.assemble((section.title, "bold"), (state, _colour(section.state)))
    if section.remark:
        yield Text(f"  {one_line(section.remark, 200)}", style="yellow")
    grid = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("", width=BAR_WIDTH)
    for header in section.headers:
        grid.add_column(header, no_wrap=True, overflow="ellipsis")
    for row, filled in zip(section.rows, section.filled, strict=True):
        style = "green" if (filled or 0) >= NEARLY_FULL else "cyan"
        bar = ProgressBar(1.0, min(1.0, filled), BAR_WIDTH, complete_style=style, finished_style=style)\
            if filled is not None else Text("")  # fmt: skip
        grid.add_row(bar, *(Text(cell) for cell in row))
    yield grid


def _colour(state: str) -> str:
    if state == NOBODY:
        return "dim"
    return "green" if state == "in use" else "yellow"
