"""`python -m tests.bigquery_server --port N --grpc-port M --folder DIR`: the fake BigQuery, until it is killed.

Belongs here: the command line. Not here: anything else; what the fake is, and what it is not: process.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aiohttp import web

from tests.bigquery_server.server import Server

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A strict fake of BigQuery on 127.0.0.1.")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--grpc-port", type=int, required=True, help="for the Storage Read API")
    arguments.add_argument("--folder", type=Path, required=True, help="for the log of calls")
    said = arguments.parse_args()
    web.run_app(
        Server(said.folder, said.grpc_port).app(), host="127.0.0.1", port=said.port, print=None, access_log=None
    )
