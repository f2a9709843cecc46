"""What the engine costs, how well it uses a limit, and what it survives: the command line measured from outside.

`python -m benchmarks.engine --help`; benchmarks/README.md says how to read the table.
Belongs here: the cases, the providers and other sides they need, the judge. Not here: the engine, which is only driven
as users drive it, by `batch-llm run`.
"""
