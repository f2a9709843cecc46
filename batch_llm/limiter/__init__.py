"""Limits and money: who may send when, and what may still be spent.

Belongs here: pacing, adapting to the provider, the budget's ledger. Not here: predicting tokens (tokens.py), deciding
to try again (engine/retry.py).
"""
