"""How well the shared rate limiter uses a limit, keeps it, shares it, and what it costs.

`python -m benchmarks.limiter --help`; benchmarks/README.md says how to read the table.
Belongs here: the cases, their worker processes, simulated providers, the judge. Not here: the limiter.
"""
