"""Google's sign-in on this machine: a service account's file, and who gives tokens to it and to a machine's account.

Belongs here: opening both. Not here: promises.
Source: https://developers.google.com/identity/protocols/oauth2/service-account (the answer's fields),
https://cloud.google.com/compute/docs/metadata/querying-metadata (paths, Metadata-Flavor) (read 2026-11-29).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.bigquery_server.service_account import write_service_account
from tests.local_server import served

TOKEN = "token-number-"


class TokenEndpoint:
    """Gives out numbered tokens that are good for an hour, to whoever brings a signed assertion."""

    def __init__(self) -> None:
        self.given = 0
        self.refuses = False
        self.fails = False

    async def answer(self, request: web.Request) -> web.Response:
        """One token."""
        if self.fails:
            return web.Response(status=503)
        form = await request.post()
        if self.refuses or not form.get("assertion"):
            return web.json_response({"error": "invalid_grant", "error_description": "no such account"}, status=400)
        self.given += 1
        given = {"access_token": f"{TOKEN}{self.given}", "expires_in": 3_600, "token_type": "Bearer"}
        return web.json_response(given)


@asynccontextmanager
async def token_endpoint(account: Path) -> AsyncIterator[TokenEndpoint]:
    """Serves tokens, and writes the file of an account that gets them."""
    endpoint, app = TokenEndpoint(), web.Application()
    app.router.add_post("/token", endpoint.answer)
    async with served(app) as host:
        write_service_account(account, "my-project", f"http://{host}/token")
        yield endpoint


class MetadataServer:
    """What a machine of Google's asks about itself; its account has numbered tokens."""

    def __init__(self) -> None:
        self.host = ""
        self.given = 0
        self.fails = False

    async def answer(self, request: web.Request) -> web.Response:
        """Whatever is asked."""
        headers = {"Metadata-Flavor": "Google"}
        if request.path.endswith("/token"):
            if self.fails:
                return web.Response(status=503, headers=headers)
            self.given += 1
            given = {"access_token": f"{TOKEN}{self.given}", "expires_in": 3_600, "token_type": "Bearer"}
            return web.json_response(given, headers=headers)
        if request.path.endswith("/project-id"):
            return web.Response(text="my-project", headers=headers)
        if "/service-accounts/" in request.path:
            return web.json_response({"email": "default@my-project.iam.gserviceaccount.com"}, headers=headers)
        return web.Response(status=200 if request.path == "/" else 404, headers=headers)


@asynccontextmanager
async def metadata_server() -> AsyncIterator[MetadataServer]:
    """Serves what a machine of Google's knows of itself."""
    machine, app = MetadataServer(), web.Application()
    app.router.add_get("/{path:.*}", machine.answer)
    async with served(app) as machine.host:
        yield machine
