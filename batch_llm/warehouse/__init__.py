"""Warehouses: where tables come from and go to.

Belongs here: freezing inputs, publishing slices, promoting them into output tables. Not here: what a row's columns hold
(engine/publish.py).
"""

__all__: list[str] = []
