"""The dashboard: a page of static files under `/dashboard/`, and the overview behind it."""

from argparse import Namespace
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.datastructures import State
from starlette.exceptions import HTTPException

from caesura.server.dashboard import overview_routes
from caesura.server.dashboard.overview import Overviews
from caesura.server.sessions.service import Service

router = APIRouter(prefix="/dashboard", include_in_schema=False)

STATIC = Path(__file__).parent / "static"
FILES = {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.is_file()}
# Whatever a tool or a model wrote into the page could neither run nor reach anything.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Dashboard:
    """The part of the server that shows what it does. Comes after the part that runs sessions."""

    def attach(self, app: FastAPI) -> None:
        """Add the page and the routes of the overview."""
        app.include_router(router)
        app.include_router(overview_routes.router)

    async def start(self, engine_client: object, state: State, args: Namespace) -> None:
        """Begin to sample the sessions, where there are some, and the engine."""
        service = state.caesura
        agents = service.agents if isinstance(service, Service) else None
        state.caesura_overviews = self._overviews = Overviews(agents)
        await self._overviews.start()

    async def stop(self) -> None:
        """Sample no more."""
        await self._overviews.stop()


@router.get("")
async def redirect() -> RedirectResponse:
    """To the page: relative, so that it is right behind a proxy that adds a prefix."""
    return RedirectResponse("dashboard/", status_code=307)


@router.get("/{path:path}")
async def file(path: str) -> Response:
    """A file of the page. None needs a key: the page asks for one where the API does."""
    found = FILES.get(path or "index.html")
    if found is None:
        raise HTTPException(404)
    return FileResponse(found, headers=SECURITY_HEADERS)
