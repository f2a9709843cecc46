"""Anthropic's messages API.

Belongs here: its JSON, the schemas it takes, its errors. Not here: what is true of the account (kinds/anthropic.py).
"""

__all__: list[str] = []
