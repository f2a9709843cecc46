"""One checked connection to a Redis, and scripts run over it.

Belongs here: URL, connection, checks of the server, running a script. Not here: what the scripts do (``lua/``), what
an error means (redis_errors.py), starting a Redis (private_redis.py).
Invariants: no call takes longer than `CONNECT_TIMEOUT_S` + `ANSWER_TIMEOUT_S`; a script that may have run is never
sent again; the password is in no message.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgpack
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException, RedisError

from batch_llm.errors import ConfigurationError, LimiterStoreError
from batch_llm.limiter.redis_errors import limiter_error

__all__ = ["RedisLink", "Script", "load_script"]

CONNECT_TIMEOUT_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 1.0
OLDEST_REDIS: Final = (6, 2)

_FAILURES = (RedisError, RedisClusterException, OSError)  # TimeoutError is an OSError


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name Redis gives it."""

    name: str
    text: str = field(repr=False)
    sha1: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha1", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


def load_script(name: str, parts: Sequence[str]) -> Script:
    """The script made of ``lua/<part>.lua``, in the order given; load it once and keep it."""
    folder = files("batch_llm.limiter") / "lua"
    return Script(name, "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts))


class RedisLink:
    """One connection to one Redis, used from one event loop; made when needed, and anew after it broke.

    Calls wait for each other: a call is one round trip. A context manager (`async with`): leaving it closes.

    Attributes:
        place: The server as messages name it: scheme, host, port and database, or the socket's path.
        version: What the server said of itself at the last connect; None before.
        warnings: What is wrong there but does not hinder; known after a connect.
    """

    def __init__(self, url: str) -> None:
        """Nothing is sent yet.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``, with a password if it needs one.

        Raises:
            ConfigurationError: It is no such URL.
        """
        self.place, options = _parsed_url(url)
        self.version: str | None = None
        self.warnings: tuple[str, ...] = ()
        self._connection = _connection(options, self.place)
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"RedisLink({self.place})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def connect(self) -> None:
        """Connect and check the server, if that is not done.

        Raises:
            LimiterUnreachable: It does not answer.
            LimiterStoreError: It answers with an error, or is older than Redis 6.2.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S), self._turn:
                await self._connect()
        except _FAILURES as error:
            raise limiter_error(error, self.place) from error

    async def run(self, script: Script, keys: Sequence[bytes | str], argument: Any) -> Any:
        """Run a script with one argument and return its reply, both packed with msgpack on the way.

        Raises:
            LimiterUnreachable: As `run_packed`.
            LimiterStoreError: As `run_packed`; the reply cannot be read.
        """
        reply = await self.run_packed(script, keys, msgpack.packb(argument))
        try:
            return msgpack.unpackb(reply, use_list=True, raw=False, strict_map_key=False)
        except (ValueError, TypeError) as error:
            raise self.unreadable(script, error) from error

    async def run_packed(self, script: Script, keys: Sequence[bytes | str], *arguments: bytes | str) -> Any:
        """Run a script with arguments that are packed already, and return its reply as it comes.

        After `LimiterUnreachable` the script may have run, unless ``refused``.

        Raises:
            LimiterUnreachable: No answer in time.
            LimiterStoreError: Redis or the script answers with an error.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S), self._turn:
                await self._connect()
                return await self._evaluate(script, keys, arguments)
        except _FAILURES as error:
            raise limiter_error(error, self.place) from error

    def unreadable(self, script: Script, error: Exception) -> LimiterStoreError:
        """The error for a reply that is not what the script gives."""
        return LimiterStoreError(
            f"Redis at {self.place} gave a reply to the script {script.name} that cannot be read: {error}; "
            "check that it is a Redis of batch_llm's own"
        )

    async def aclose(self) -> None:
        """Close the connection; a later call opens it again."""
        try:
            await self._connection.disconnect()
        except _FAILURES:
            pass  # it is gone either way

    async def _connect(self) -> None:
        if self._connection.is_connected:
            # what was closed (Redis restarted) is noticed before the script is sent, while sending is still harmless
            if not await self._connection.can_read():
                return
            await self._connection.disconnect(nowait=True)
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            self._check(await self._ask("INFO"))
        except (*_FAILURES, LimiterStoreError, asyncio.CancelledError):
            await self._connection.disconnect(nowait=True)
            raise

    async def _evaluate(self, script: Script, keys: Sequence[bytes | str], arguments: Sequence[bytes | str]) -> Any:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                try:
                    return await self._ask("EVALSHA", script.sha1, len(keys), *keys, *arguments)
                except NoScriptError:
                    return await self._ask("EVAL", script.text, len(keys), *keys, *arguments)
        except ReadOnlyError:  # a failover: the name in the URL may lead to another server by now
            await self._connection.disconnect(nowait=True)
            raise

    async def _ask(self, *command: bytes | str | int) -> Any:
        await self._connection.send_command(*command)
        return await self._connection.read_response()

    def _check(self, info: Any) -> None:
        """Refuse a server that is too old; note what may go wrong later."""
        said = _parsed(info)
        self.version = said.get("redis_version", "")
        try:
            version = tuple(int(part) for part in self.version.split(".")[:2])
        except ValueError:
            raise LimiterStoreError(
                f"what listens at {self.place} does not tell a Redis version; check BATCH_LLM_REDIS_URL"
            ) from None
        if version < OLDEST_REDIS:
            raise LimiterStoreError(
                f"Redis at {self.place} is version {self.version}; the limiter needs 6.2 or later: use a newer one, "
                "or unset BATCH_LLM_REDIS_URL to use the home's own"
            )
        self.warnings = tuple(_warnings(said, self.place))


def _warnings(said: dict[str, str], place: str) -> list[str]:
    policy = said.get("maxmemory_policy", "noeviction")
    if said.get("maxmemory", "0") == "0" or policy == "noeviction":
        return []
    told = (
        f"Redis at {place} drops keys when its memory is full (maxmemory-policy {policy}): limits and budgets could "
        "be forgotten; set maxmemory-policy noeviction, or give batch_llm a Redis of its own"
    )
    return [told]


def _parsed(info: Any) -> dict[str, str]:
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def _parsed_url(url: str) -> tuple[str, dict[str, Any]]:
    """The server's place without user, password and options, and what redis-py makes of the URL."""
    wrong = ConfigurationError(
        "the URL of Redis (it is not shown) must be one like redis://:PASSWORD@host:6379/0, rediss://host:6380/0 (TLS) "
        "or unix:///path/of/redis.sock"
    )
    try:
        parts = urlsplit(url)
        options = dict(parse_url(url))
    except ValueError:  # its text may hold the password
        raise wrong from None
    if parts.scheme == "unix":
        if not parts.path or parts.hostname:
            raise wrong
        return str(options["path"]), options
    if not (parts.path.strip("/") or "0").isdecimal():  # redis-py would take database 0
        raise wrong
    host = str(options.get("host", "localhost"))
    address = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{address}:{options.get('port', 6379)}/{options.get('db', 0)}", options


def _connection(options: dict[str, Any], place: str) -> AbstractConnection:
    kind = options.pop("connection_class", Connection)
    options |= {
        "decode_responses": False,
        "driver_info": None,  # saves two round trips per connect
        "protocol": 2,  # RESP3's HELLO would hide the version of a server that is too old
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": None,  # one asyncio.timeout bounds a call: redis-py would make a task for each write
    }
    try:
        connection: AbstractConnection = kind(**options)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"the URL of Redis at {place} has an option (after its `?`) that is not known; leave it out"
        ) from None
    return connection
