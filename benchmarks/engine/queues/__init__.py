"""Three ways to keep what is to be asked and what was answered, side by side: the evaluation behind decision 0006.

Belongs here: small honest scripts, alike but for the queue. Not here: the engine.
"""
