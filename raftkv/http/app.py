"""The endpoints of the HTTP port."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from raftkv.http.exposition import Exposition
from raftkv.http.liveness import liveness, readiness
from raftkv.http.report import PublishedReport, ReadinessCheck


def make_app(published: PublishedReport, now: Callable[[], float] = time.monotonic) -> Starlette:
    """An ASGI application that reads only what was published."""
    exposition = Exposition(published, now)

    async def livez(request: Request) -> Response:
        return _answer(liveness(published.latest, now()), request)

    async def readyz(request: Request) -> Response:
        local = "local" in request.query_params
        return _answer(readiness(published.latest, now(), local=local), request)

    async def metrics(_: Request) -> Response:
        return Response(exposition.text(), media_type=CONTENT_TYPE_LATEST)

    async def version(_: Request) -> Response:
        return JSONResponse(dict(published.latest.versions))

    endpoints = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/version": version}
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in endpoints.items()])


def _answer(checks: Sequence[ReadinessCheck], request: Request) -> Response:
    """200 if all checks pass, else 503. `?verbose` names all checks, a failure those that fail."""
    failed = any(each.failure for each in checks)
    lines = _lines(checks, verbose="verbose" in request.query_params)
    text = "\n".join([*lines, "failed" if failed else "ok"])
    return PlainTextResponse(text + "\n", status_code=503 if failed else 200)


def _lines(checks: Sequence[ReadinessCheck], *, verbose: bool) -> Iterator[str]:
    for each in checks:
        if each.failure:
            yield f"[-] {each.name}: {each.failure}"
        elif verbose:
            yield f"[+] {each.name}"
