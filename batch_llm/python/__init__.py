"""The door for Python: a job from a script or a notebook, its rows as frames, the limits as everybody shares them.

Belongs here: the sync and the awaitable form, frames in and out, progress in a notebook, Ctrl-C. Not here: rules
(engine), another door's looks (cli).
"""

from batch_llm.python.jobs import AnyJob, AnyTable
from batch_llm.python.reading import limits, output
from batch_llm.python.result import RunResult
from batch_llm.python.running import arun, run
from batch_llm.python.uploading import upload

__all__ = ["AnyJob", "AnyTable", "RunResult", "arun", "limits", "output", "run", "upload"]
