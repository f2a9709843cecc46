"""``python -m batch_llm.cli``: the same as ``batch-llm``, for an environment without its script.

Belongs here: the call. Not here: anything else.
"""

from batch_llm.cli.entry import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
