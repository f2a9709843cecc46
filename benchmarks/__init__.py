"""Measurements of the product, run by hand: figures, as ratios within one run, with the machine's load beside them.

Belongs here: one folder per part that is measured. Not here: assertions (tests/), product code.
"""
