"""The command line ``batch-llm``.

Belongs here: the commands, how they speak (terminal, JSON, exit codes) and what they ask before they spend. Not
here: doing the work (engine), picking implementations (wiring.py). Every heavy import stands inside a function:
``batch-llm --help`` loads neither a warehouse, nor a provider, nor Dagster (tested so).
"""

from batch_llm.cli.entry import main

__all__ = ["main"]
