"""What surrounds a job: environment, secrets, the providers file, and reading YAML with line numbers.

Belongs here: settings and files that say *with what* jobs run. Not here: what a job is (`batch_llm.job`).
"""

__all__: list[str] = []
