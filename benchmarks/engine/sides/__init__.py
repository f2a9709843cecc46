"""The programs that the engine is compared with, each a process of its own.

Belongs here: scripts that read the Parquet table, call with so many in flight, and write JSONL. Not here: measuring
them (overhead.py).
"""
