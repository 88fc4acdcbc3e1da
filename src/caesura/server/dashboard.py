"""The dashboard: a page of static files, under `/dashboard/`."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

STATIC = Path(__file__).parent / "static"
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


def dashboard_router() -> APIRouter:
    """Routes of the page. It needs no key itself, and asks for one where the API does."""
    router = APIRouter(prefix="/dashboard", include_in_schema=False)

    @router.get("")
    async def page() -> RedirectResponse:
        # Relative, so that it is right behind a proxy that adds a prefix.
        return RedirectResponse("dashboard/", status_code=307)

    @router.get("/{path:path}")
    async def file(path: str) -> Response:
        found = (STATIC / (path or "index.html")).resolve()
        if not found.is_relative_to(STATIC) or not found.is_file():
            raise HTTPException(404)
        return FileResponse(found, headers=SECURITY_HEADERS)

    return router
