"""Push millions of table rows through cloud LLMs: every row once, at the speed of the limit, to the cent.

Belongs here: the public names, loaded when first used. Not here: any code; importing this package stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_llm.engine.events import RunSummary
    from batch_llm.job.load import DeclaredJob, declare, load_job
    from batch_llm.job.model import Job
    from batch_llm.python import RunResult, arun, limits, output, run, upload

__all__ = [
    "DeclaredJob",
    "Job",
    "RunResult",
    "RunSummary",
    "arun",
    "declare",
    "limits",
    "load_job",
    "output",
    "run",
    "upload",
]

_PLACES = {
    "DeclaredJob": "batch_llm.job.load",
    "Job": "batch_llm.job.model",
    "RunResult": "batch_llm.python",
    "RunSummary": "batch_llm.engine.events",
    "arun": "batch_llm.python",
    "declare": "batch_llm.job.load",
    "limits": "batch_llm.python",
    "load_job": "batch_llm.job.load",
    "output": "batch_llm.python",
    "run": "batch_llm.python",
    "upload": "batch_llm.python",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
