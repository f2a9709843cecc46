"""The job: what a user declares, its prompt, and the shape of its answers.

Belongs here: the model, its files, its rules. Not here: running it (`batch_llm.engine`), with which keys and limits
(`batch_llm.config`).
"""

__all__: list[str] = []
