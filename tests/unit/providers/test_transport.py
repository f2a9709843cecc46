"""What one POST does, whatever it carries: a real server on a free port answers."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress

import pytest
from aiohttp import web

from batch_llm.config.secrets import register_secret
from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers import transport
from batch_llm.providers.anthropic.refusals import refusal as anthropics
from batch_llm.providers.base import Phase, Sending
from batch_llm.providers.google.refusals import refusal as googles
from batch_llm.providers.openai.refusals import refusal
from batch_llm.providers.refused import Refusal
from batch_llm.providers.transport import Connection
from tests.local_server import served

KEY = "Pl4nted/key9+abcdEF=="
ESCAPED = [KEY.replace("/", "\\/"), KEY.replace("=", "\\u003D"), KEY.replace("+", "\\u002b").replace("/", "\\\\/")]


async def test_while_a_call_signs_in_it_says_so() -> None:
    """Whoever ends it then knows that nothing was sent."""
    signed = asyncio.Event()

    async def sign() -> Mapping[str, str]:
        await signed.wait()
        return {}

    connection, sending = Connection({}, refusal, sign), Sending()
    signed.set()
    async with connection:
        signed.clear()
        call = asyncio.create_task(connection.post("http://127.0.0.1:9/", b"{}", sending=sending))
        await asyncio.sleep(0)
        assert sending.phase is Phase.SIGN_IN
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert sending.phase is Phase.SIGN_IN


async def test_a_sign_in_that_does_not_answer_fails_calls_and_not_the_opening() -> None:
    """Calls are asked again; a sign-in that is refused is told at once."""
    away = ProviderError(ErrorClass.CONNECTION, "the sign-in did not answer")

    async def fail() -> Mapping[str, str]:
        raise away

    async def refuse() -> Mapping[str, str]:
        raise AuthenticationFailed("nobody is signed in")

    async with Connection({}, refusal, fail) as connection:
        with pytest.raises(ProviderError) as caught:
            await connection.post("http://127.0.0.1:9/", b"{}", sending=Sending())
    assert caught.value is away
    with pytest.raises(AuthenticationFailed):
        async with Connection({}, refusal, refuse):
            pass


async def refused_with(
    status: int, body: str, whose: Refusal = refusal, headers: Mapping[str, str] | None = None
) -> Exception:
    """The error that such an answer becomes."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers)

    app = web.Application()
    app.router.add_post("/", answer)
    async with served(app) as host, Connection({}, whose) as connection:
        with pytest.raises((ProviderError, AuthenticationFailed, QuotaExhausted)) as caught:
            await connection.post(f"http://{host}/", b"{}")
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_no_other_host_gets_the_key(status: int) -> None:
    got: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        got.append(str(dict(request.headers)))
        return web.json_response({})

    async def moved(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": f"http://{other}/v1?key={KEY}"})

    there, here = web.Application(), web.Application()
    there.router.add_route("*", "/{path:.*}", elsewhere)
    here.router.add_route("*", "/{path:.*}", moved)
    connection = Connection({"Authorization": f"Bearer {KEY}"}, refusal)
    async with served(there) as other, served(here) as host, connection:
        with pytest.raises(AuthenticationFailed, match=r"redirect to http://127\.0\.0\.1 .*base_url") as caught:
            await connection.post(f"http://{host}/", b"{}")
    assert got == []
    assert "key=" not in str(caught.value)


@pytest.mark.parametrize("whose", [refusal, anthropics, googles])
@pytest.mark.parametrize("status", [300, 304, 308, 405, 421])
async def test_a_wrong_address_stops_the_run_and_names_base_url(status: int, whose: Refusal) -> None:
    """It is no row's fault, and each row would meet it."""
    error = await refused_with(status, "", whose, {"Location": "http://[broken"})
    assert isinstance(error, AuthenticationFailed)
    assert "base_url" in str(error)


@pytest.mark.parametrize("escaped", ESCAPED)
@pytest.mark.parametrize("whose", [refusal, anthropics, googles])
@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, ProviderError), (404, AuthenticationFailed), (402, QuotaExhausted), (500, ProviderError)],
)
async def test_a_key_in_a_refusal_is_hidden_however_it_is_written(
    status: int, expected: type[Exception], whose: Refusal, escaped: str
) -> None:
    register_secret(KEY)
    if whose is googles and status == 402:
        status, expected = 400, ProviderError
    error = await refused_with(status, f'{{"error": {{"message": "no such thing for {escaped}, sorry"}}}}', whose)
    assert isinstance(error, expected)
    assert "***, sorry" in str(error)


@pytest.mark.parametrize(
    ("whose", "body", "outline"),
    [
        (
            refusal,
            {"error": {"code": "unknown_parameter", "message": "no: the row's text"}},
            "HTTP 400 unknown_parameter",
        ),
        (refusal, {"error": {"code": "the row: its text", "message": "no"}}, "HTTP 400"),
        (refusal, "the row's text", "HTTP 400"),
        (anthropics, {"error": {"type": "invalid_request_error", "message": "x"}}, "HTTP 400 invalid_request_error"),
        (googles, {"error": {"status": "INVALID_ARGUMENT", "message": "x"}}, "HTTP 400 INVALID_ARGUMENT"),
    ],
)
async def test_a_refusal_is_outlined_without_what_may_be_the_rows_text(
    whose: Refusal, body: object, outline: str
) -> None:
    error = await refused_with(400, json.dumps(body), whose)
    assert isinstance(error, ProviderError)
    assert error.outline == outline


async def test_what_an_error_says_beside_its_message_is_kept() -> None:
    error = await refused_with(
        429, '{"error": {"message": "Slow down on tokens per min"}}', headers={"retry-after": "7"}
    )
    assert isinstance(error, ProviderError)
    assert (error.retry_after_s, error.scope) == (7.0, "tokens")


def endless(status: int, encoding: str) -> web.Application:
    """A server whose answers end when the connection does; packed, a kB of them is a MB."""
    packer, blanks = zlib.compressobj(wbits=16 + zlib.MAX_WBITS), b" " * (1 << 20)
    start, more = b'{"error": {"message": "no"}}', blanks
    if encoding:
        start = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
        more = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated: it refers to nothing before

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query:
            return web.json_response({"fine": True})
        response = web.StreamResponse(status=status, headers={"Content-Encoding": encoding} if encoding else {})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with suppress(ConnectionError):
            await response.write(start)
            while True:
                await response.write(more)
                await asyncio.sleep(0)
        return response

    app = web.Application()
    app.router.add_post("/", answer)
    return app


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_an_answer_without_an_end_is_read_up_to_the_most_and_may_be_paid(encoding: str) -> None:
    """Unpacked, wherever it is packed; none of it is kept, and the next call is answered."""
    async with served(endless(200, encoding), shutdown_s=0.1) as host, Connection({}, refusal) as connection:
        with pytest.raises(ProviderError, match="larger than 64 MiB") as caught:
            await connection.post(f"http://{host}/", b"{}", total_s=60)
        error = caught.value
        assert (error.error_class, error.maybe_paid, error.outline) == (ErrorClass.MALFORMED, True, str(error))
        assert (await connection.post(f"http://{host}/?fine=1", b"{}", total_s=60)).body == b'{"fine": true}'


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_of_a_refusal_without_an_end_the_beginning_says_what_it_is(encoding: str) -> None:
    async with served(endless(503, encoding), shutdown_s=0.1) as host, Connection({}, refusal) as connection:
        with pytest.raises(ProviderError) as caught:
            await connection.post(f"http://{host}/", b"{}", total_s=60)
    assert (caught.value.error_class, caught.value.maybe_paid) == (ErrorClass.OVERLOADED, False)


@pytest.mark.parametrize("over", [0, 1])
async def test_the_most_that_is_read_is_read(over: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_ANSWER_BYTES", 1_000_000)
    body = b" " * (1_000_000 + over)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_post("/", answer)
    async with served(app) as host, Connection({}, refusal) as connection:
        call = connection.post(f"http://{host}/", b"{}", total_s=60)
        if over:
            with pytest.raises(ProviderError):
                await call
        else:
            assert (await call).body == body
