"""Exit codes: what a script may trust."""

from collections.abc import Callable

import pytest

from batch_llm import errors
from batch_llm.cli.exits import Exit, exit_for_error, exit_for_summary
from batch_llm.engine.events import RunSummary


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, Exit.OK),
        ({"ok": 93, "failed": 7}, Exit.FAILED_ROWS),
        ({"ok": 50, "pending": 50, "stopped": "cancelled"}, Exit.STOPPED),
        ({"ok": 50, "failed": 7, "pending": 43, "stopped": "budget"}, Exit.STOPPED),
        ({"ok": 50, "pending": 50}, Exit.STOPPED),
        ({"ok": 5, "pending": 95, "stopped": "sample"}, Exit.OK),
        ({"ok": 4, "failed": 1, "pending": 95, "stopped": "sample"}, Exit.FAILED_ROWS),
        ({"nothing_to_do": True}, Exit.OK),
        ({"nothing_to_do": True, "ok": 99, "failed": 1}, Exit.OK),
        ({"rows": 0, "ok": 0}, Exit.OK),
    ],
)
def test_a_run_ends_with_the_documented_code(
    summary: Callable[..., RunSummary], changes: dict[str, object], code: Exit
) -> None:
    assert exit_for_summary(summary(**changes)) is code


def all_errors(kind: type[errors.BatchLLMError]) -> list[type[errors.BatchLLMError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_errors(child))]


def made(kind: type[errors.BatchLLMError]) -> errors.BatchLLMError:
    if issubclass(kind, errors.ProviderError):
        return kind(errors.ErrorClass.TIMEOUT, "x")
    return kind("x")


def test_every_error_of_the_tree_has_its_code() -> None:
    """What the user declared: 2. What the same command goes on from: 3. The rest is a fault of ours: 4."""
    tree = {kind for kind in all_errors(errors.BatchLLMError) if kind.__module__ == errors.__name__}
    codes = {kind: exit_for_error(made(kind)) for kind in tree}
    usage = {kind for kind in codes if issubclass(kind, errors.ConfigurationError)}
    usage |= {errors.LimiterUnreachable, errors.LimiterStoreError}  # from the start; later the limiter waits
    usage |= {errors.WarehouseRefused}  # likewise; later the engine raises another
    usage |= {errors.JournalRefused}  # before anything is asked: a file of this machine is to be mended
    stopped = {kind for kind in codes if issubclass(kind, errors.StopRun)}
    stopped |= {errors.SliceBusy, errors.JournalBusy, errors.JournalFull, errors.JournalUnreachable}
    stopped |= {errors.WarehouseError}
    assert {kind for kind, code in codes.items() if code is Exit.USAGE} == usage
    assert {kind for kind, code in codes.items() if code is Exit.STOPPED} == stopped
    assert {code for kind, code in codes.items() if kind not in usage | stopped} == {Exit.INTERNAL}
