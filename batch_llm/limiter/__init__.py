"""Limits and money: who may send when, and how much may be spent.

Belongs here: the protocols (base.py), their implementations, the arithmetic of a rate. Not here: token counts
(tokens.py), prices (pricing.py), retries (engine/).
"""

__all__: list[str] = []
