"""What each error of Redis and its client means to the limiter.

Belongs here: the table of redis-py's exceptions and of the error codes of a server, the words. Not here: what is
done about an error. A test walks redis-py's exceptions and fails for one that is not in the table.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Final

from redis import exceptions

from batch_llm.errors import LimiterError, LimiterStoreError, LimiterUnreachable

__all__ = ["MEANINGS", "UNREACHABLE", "limiter_error"]

UNREACHABLE: Final = "unreachable"

_PASSWORD = "check the user and password in its URL (BATCH_LLM_REDIS_URL)"  # noqa: S105  a sentence, no password
_CLUSTER = "Redis Cluster is not supported yet: give the URL of a single Redis (or Valkey) server"
_REPLICA = "this is a replica: give the URL of the server that takes writes (after a failover that is another one)"
_MEMORY = "raise its maxmemory, or give batch_llm a Redis of its own"
_OTHERS_KEYS = "another program uses batch_llm's keys there: give batch_llm a database of its own (redis://host:6379/1)"
_DISK = "it cannot write to its disk: make room there and see its log"
_NOT_ALLOWED = "this user needs EVAL, EVALSHA, INFO and the keys batch_llm:*"
_NOT_REDIS = "something else than Redis seems to listen there: check BATCH_LLM_REDIS_URL"
_SERVER = "see the log of that Redis"
_OURS = "this is a defect of batch_llm, please report it"

MEANINGS: Final[dict[type[Exception], str]] = {
    # no answer, or not yet: waiting helps
    exceptions.ConnectionError: UNREACHABLE,
    exceptions.TimeoutError: UNREACHABLE,
    exceptions.BusyLoadingError: UNREACHABLE,
    exceptions.MaxConnectionsError: UNREACHABLE,
    # answers with an error: a person has to do something
    exceptions.AuthenticationError: _PASSWORD,
    exceptions.AuthenticationWrongNumberOfArgsError: _PASSWORD,
    exceptions.AuthorizationError: _PASSWORD,
    exceptions.ExternalAuthProviderError: _PASSWORD,
    exceptions.NoPermissionError: _NOT_ALLOWED,
    exceptions.ReadOnlyError: _REPLICA,
    exceptions.MasterDownError: _REPLICA,
    exceptions.OutOfMemoryError: _MEMORY,
    exceptions.InvalidResponse: _NOT_REDIS,
    exceptions.MovedError: _CLUSTER,
    exceptions.AskError: _CLUSTER,
    exceptions.TryAgainError: _CLUSTER,
    exceptions.ClusterCrossSlotError: _CLUSTER,
    exceptions.ClusterDownError: _CLUSTER,
    exceptions.ClusterError: _CLUSTER,
    exceptions.RedisClusterException: _CLUSTER,
    exceptions.SlotNotCoveredError: _CLUSTER,
    exceptions.CrossSlotTransactionError: _CLUSTER,
    exceptions.ResponseError: _SERVER,
    exceptions.RedisError: _SERVER,
    exceptions.ModuleError: _SERVER,
    # of features that are not used here
    exceptions.NoScriptError: _OURS,
    exceptions.ExecAbortError: _OURS,
    exceptions.DataError: _OURS,
    exceptions.PubSubError: _OURS,
    exceptions.WatchError: _OURS,
    exceptions.NoSuchFieldsetError: _OURS,
    exceptions.LockError: _OURS,
    exceptions.LockNotOwnedError: _OURS,
    exceptions.ChildDeadlockedError: _OURS,
    exceptions.InvalidPipelineStack: _OURS,
    exceptions.IncorrectPolicyType: _OURS,
}

# codes that redis-py has no class for, and codes that Redis 6.2 puts into the middle of "Error running script .."
_CODES: Final[dict[str, str]] = {
    "BUSY": UNREACHABLE,  # another script runs too long
    "LOADING": UNREACHABLE,
    "MISCONF": _DISK,
    "NOREPLICAS": "its min-replicas-to-write is not met: see its replicas",
    "OOM": _MEMORY,
    "READONLY": _REPLICA,
    "WRONGTYPE": _OTHERS_KEYS,
    "MOVED": _CLUSTER,
    "NOPERM": _NOT_ALLOWED,
    "Error running script": _OURS,
    "Error compiling script": _OURS,
    "user_script": _OURS,
}
_CODE = re.compile("|".join(rf"(?<![A-Za-z]){code}(?![A-Za-z])" for code in _CODES))

_NOBODY_LISTENS = {errno.ECONNREFUSED, errno.ENOENT}
_NO_SUCH_NETWORK = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # e.g. `localhost` on a machine without IPv6
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def limiter_error(error: Exception, place: str) -> LimiterError:
    """The limiter's error for what redis-py, the socket or a timeout raised.

    Args:
        error: Any exception of redis-py, an OSError or a TimeoutError.
        place: How the server is called in the message; without a password.
    """
    # on a Unix socket redis-py wraps its own errors, e.g. a wrong password, in a ConnectionError
    inner = error.__cause__ if type(error) is exceptions.ConnectionError else None
    meant = inner if isinstance(inner, exceptions.RedisError) else error
    meaning = _meaning(meant)
    said = str(meant).strip().rstrip(".") or type(meant).__name__
    if meaning != UNREACHABLE:
        return LimiterStoreError(f"Redis at {place} answers with an error: {said}; {meaning}")
    refused = any(map(_refused, _causes(error)))
    if refused:
        said = "nobody listens there (is it running, is BATCH_LLM_REDIS_URL right?)"
    elif isinstance(error, TimeoutError):
        said = "no answer in time (is it overloaded or behind a firewall, is BATCH_LLM_REDIS_URL right?)"
    return LimiterUnreachable(f"Redis at {place} does not answer: {said}", refused=refused)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it: redis-py hides what the socket raised."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _meaning(error: BaseException) -> str:
    known = next((MEANINGS[each] for each in type(error).__mro__ if each in MEANINGS), UNREACHABLE)
    if known in (_SERVER, _OURS):  # the class says little: the text may say more
        codes = set(_CODE.findall(str(error)))
        return next((meaning for code, meaning in _CODES.items() if code in codes), known)
    return known


def _refused(error: BaseException) -> bool:
    """Whether nobody listens at the address, or at any of the addresses of a name."""
    if not isinstance(error, OSError):
        return False
    if error.errno is not None:
        return error.errno in _NOBODY_LISTENS
    numbers = {int(number) for number in _ERRNO.findall(str(error))}  # asyncio's "Multiple exceptions: .."
    return bool(numbers & _NOBODY_LISTENS) and numbers <= _NOBODY_LISTENS | _NO_SUCH_NETWORK
