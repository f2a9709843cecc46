"""What every answer that is no 2xx goes through, whoever's it is.

Belongs here: hiding keys in it, the statuses that mean the same of every API. Not here: what else an error answer means
(the refusals.py of each API), sending (transport.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from batch_llm.config.secrets import scrub
from batch_llm.errors import AuthenticationFailed, BatchLLMError, ProviderError

__all__ = ["Refusal", "refused", "scrubbed"]

# 405: an address that takes no POST; 421: a host that does not answer for this name. No row's fault, as a 404 is not.
WRONG_ADDRESS = (405, 421)

# How each API's errors begin; behind it stands what the provider says, which may repeat the row.
_OUTLINE = re.compile(r"HTTP [0-9]{3}(?: [A-Za-z0-9_.-]{1,64}(?=:|$))?")

Refusal = Callable[[int, Mapping[str, str], bytes], Exception]
"""The error to raise for a status that is no 2xx, lower-case headers and a body."""


def refused(refusal: Refusal, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """The error to raise; no key that was ever resolved is in its message. ``headers``: lower-case names."""
    if 300 <= status < 400:
        return AuthenticationFailed(
            f"this address answers with a redirect{_to(headers.get('location', ''))} (HTTP {status}), which is not "
            "followed: set base_url to the address of the API itself"
        )
    if status in WRONG_ADDRESS:
        return AuthenticationFailed(f"this address takes no such request (HTTP {status}): check base_url")
    error = refusal(status, headers, scrubbed(body))
    if isinstance(error, BatchLLMError):
        error.args = (scrub(str(error)), *error.args[1:])
    if isinstance(error, ProviderError) and (outline := _OUTLINE.match(str(error))):
        error.outline = outline[0]
    return error


def scrubbed(body: bytes) -> bytes:
    """A body without the keys: some repeat what they were sent."""
    return scrub(body.decode("utf-8", "replace")).encode()


def _to(location: str) -> str:
    """Scheme and host only: the rest may hold what was sent."""
    try:
        parts = urlsplit(location)
        return f" to {parts.scheme}://{parts.hostname}" if parts.scheme and parts.hostname else ""
    except ValueError:
        return ""
