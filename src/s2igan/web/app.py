"""Answers requests: the page, its files, and the API that the page itself uses (documented in docs/serving.md)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2igan import __version__
from s2igan.errors import UserError
from s2igan.finding import Finder
from s2igan.pipeline import SpeechToImage
from s2igan.web import drawing
from s2igan.web.limits import Limits, Rate

HERE = Path(__file__).parent
STATIC = HERE / "static"
EXAMPLES = HERE / "examples"
"""Recordings of the built-in birds, chosen by lot (benchmarks/page_examples.py)."""
EXAMPLE_FACTS = {"file", "sentence", "voice"}
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
SAMPLES, STEPS = 4, 5
"""Images where a request does not say how many, or the limit where that is lower."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A model behind the page."""

    model: SpeechToImage
    name: str
    """What the model is called on the page."""
    finder: Finder | None = None
    """Of a corpus whose nearest pictures are shown."""
    limits: Limits = field(default_factory=Limits)
    examples: Path | None = None
    """A folder with recordings and examples.json."""

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What `GET /api` says."""
        exported = self.model.exported
        return {
            "version": __version__,
            "model": self.name,
            "recipe": exported.recipe if exported else "unknown",
            "method": self.model.method,
            "resolutions": list(self.model.scales),
            "corpus": self.finder is not None,
            "limits": asdict(self.limits),
            "examples": self.example_list,
        }

    @cached_property
    def example_list(self) -> list[dict[str, str]]:
        """File, sentence and voice of each example; empty without any."""
        return [] if self.examples is None else read_examples(self.examples)[1]

    @cached_property
    def about_examples(self) -> str:
        """Where they come from, in a sentence or two for visitors."""
        return "" if self.examples is None else read_examples(self.examples)[0]


def read_examples(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """What `examples.json` says of where the recordings in a folder come from, and of each file, sentence and voice.

    Raises:
        UserError: there is no such file, it says something else, or a recording that it names is missing.
    """
    path = folder / "examples.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        about, listed = str(content.get("about", "")), content["recordings"]
        for one in listed:
            if one.keys() != EXAMPLE_FACTS or not all(isinstance(fact, str) for fact in one.values()):
                raise ValueError("each recording has file, sentence and voice")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path}: cannot be read ({error}); write {{"about": "...", "recordings": [{{"file": "...", "sentence": '
            '"...", "voice": "..."}]}.'
        ) from error
    for one in listed:
        if Path(one["file"]).name != one["file"] or not (folder / one["file"]).is_file():
            raise UserError(f"{path}: there is no recording {one['file']} beside it; correct its name.")
    return about, listed


class RefusedError(Exception):
    """A request that is answered with a sentence; every `UserError` is one of status 400."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def make_app(server: Server, *, hosts: tuple[str, ...] = LOOPBACK, frames: str = "'none'") -> Starlette:
    """The application.

    Args:
        hosts: names under which it may be asked for; `*` is any. On loopback this keeps out pages of other sites that
            point their own name here.
        frames: who may show the page in a frame, as the header Content-Security-Policy has it.
    """
    limits = server.limits
    rate, drawing_now, inside = Rate(limits.per_minute), anyio.Semaphore(1), [0]

    async def draw_in_turn(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        async with drawing_now:
            return await anyio.to_thread.run_sync(task)

    def guarded(answer: Callable[[Request], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            _check_site(request)
            wait = rate.wait_seconds(request.client.host if request.client else "")
            if wait:
                seconds = str(int(wait) + 1)
                sentence = f"That were {limits.per_minute} requests in a minute; go on in {seconds} seconds."
                raise RefusedError(429, sentence, {"Retry-After": seconds})
            if inside[0] >= limits.waiting:  # from their uploads on, so that these cannot fill the memory
                raise RefusedError(503, "Too many draw here now; try again in a few seconds.", {"Retry-After": "5"})
            inside[0] += 1
            try:
                return JSONResponse(await answer(request))
            finally:
                inside[0] -= 1

        return endpoint

    async def draw(request: Request) -> dict[str, Any]:
        options = _options(request.query_params, truncation=float, guidance=float)
        counts = _options(request.query_params, samples=int, seed=int)
        samples, seed = counts.get("samples", min(SAMPLES, limits.samples)), counts.get("seed", 1)
        _at_most("samples", samples, limits.samples)
        content = await _body(request, limits.max_bytes, limits)
        if not content:
            raise RefusedError(400, "No recording came with the request; send the bytes of a sound file as its body.")
        most = limits.seconds
        task = partial(drawing.draw, server.model, server.finder, content, samples, seed, max_seconds=most, **options)
        return await draw_in_turn(task)

    async def interpolate(request: Request) -> dict[str, Any]:
        counts = _options(request.query_params, steps=int, seed=int)
        steps, seed = counts.get("steps", min(STEPS, limits.steps)), counts.get("seed", 1)
        _at_most("steps", steps, limits.steps)
        body = await _body(request, 3 * limits.max_bytes, limits)  # base64 takes four bytes for three
        first, last = _two_recordings(body)
        task = partial(drawing.interpolate, server.model, first, last, steps, seed, max_seconds=limits.seconds)
        return await draw_in_turn(task)

    async def facts(_: Request) -> Response:
        return JSONResponse(server.facts)

    template = Environment(loader=FileSystemLoader(HERE), autoescape=True).get_template("page.html")
    page = template.render(server.facts, about_examples=server.about_examples)

    async def home(_: Request) -> Response:
        return HTMLResponse(page)

    async def example(request: Request) -> Response:
        wanted = request.path_params["name"]
        if server.examples is None or wanted not in {one["file"] for one in server.example_list}:
            raise RefusedError(404, "There is no such example.")
        return FileResponse(server.examples / wanted)

    return Starlette(
        routes=[
            Route("/", home),
            Route("/api", facts),
            Route("/api/draw", guarded(draw), methods=["POST"]),
            Route("/api/interpolate", guarded(interpolate), methods=["POST"]),
            Route("/examples/{name}", example),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(Headers, policy=POLICY.format(frames=frames)),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={
            UserError: lambda _, error: _sentence(400, str(error)),
            RefusedError: lambda _, error: _sentence(error.status, error.sentence, error.headers),
            HTTPException: lambda _, error: _sentence(
                error.status_code,
                f"{error.detail}: see /api for what there is.",
            ),
            Exception: _fault,
        },
    )


class Headers:
    """Adds to every answer what keeps it from other sites, from caches, and from fetching anything elsewhere."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app = app
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def _sentence(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, dict(headers or {}))


def _fault(_: Request, error: Exception) -> Response:
    log.error("A request failed", exc_info=error)
    return _sentence(500, "The server failed at this, and it is not your fault; whoever runs it finds why in its log.")


def _check_site(request: Request) -> None:
    """Browsers say where a request comes from: other sites may not draw here."""
    if request.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
        raise RefusedError(403, "This server draws for its own page only, not for other sites.")


def _options(given: Mapping[str, str], **kinds: Callable[[str], Any]) -> dict[str, Any]:
    """Numbers of a query string, those that are there."""
    found = {}
    for name, kind in kinds.items():
        if given.get(name, "") == "":
            continue
        try:
            found[name] = kind(given[name])
        except ValueError as error:
            raise RefusedError(400, f"{name} = {given[name][:40]} is no {'whole ' * (kind is int)}number.") from error
    return found


def _at_most(name: str, number: int, limit: int) -> None:
    if number > limit:
        raise RefusedError(400, f"{name} = {number} is more than this server draws at once; choose {limit} or fewer.")


async def _body(request: Request, most: int, limits: Limits) -> bytes:
    """The body, unless it is too large or too slow."""
    content = bytearray()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise RefusedError(413, f"The recording has more than {limits.megabytes} MB; send a part of it.")
    except TimeoutError:
        raise RefusedError(408, "The recording did not arrive in time; try again with a shorter one.") from None
    except ClientDisconnect:
        raise RefusedError(400, "The connection ended before the recording had arrived.") from None
    return bytes(content)


def _two_recordings(body: bytes) -> tuple[bytes, bytes]:
    """`first` and `last`, base64 in JSON."""
    try:
        given = json.loads(body)
        first, last = (base64.b64decode(given[name], validate=True) for name in ("first", "last"))
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError):
        sentence = 'Send JSON with two recordings in base64: {"first": "...", "last": "..."}.'
        raise RefusedError(400, sentence) from None
    return first, last
