"""The page at `/`: its files as they are in the package, and what a browser may do with them."""

import mimetypes
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

from litestar import HttpMethod, Request, Response, Router, route
from litestar.datastructures import CacheControlHeader

import lakehouse.serving

FOLDER = Path(lakehouse.serving.__path__[0]) / "page"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
POLICY = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
"""What the page is made of comes from here, and it asks nobody else: text that got into it as markup could do nothing."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page."""

    content: bytes
    media_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> "File":
        """Read it."""
        content = path.read_bytes()
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(content, kind, f'"{sha256(content).hexdigest()[:32]}"')

    def answer(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """The file, or that the browser has it already."""
        headers = {**POLICY, "etag": self.tag}
        cache = CacheControlHeader(no_cache=True)  # asked for anew each time, sent anew when it changed
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(
            self.content, media_type=self.media_type, headers={**headers, "cache-control": cache.to_header()}
        )


FILES = {path.relative_to(FOLDER).as_posix(): File.read(path) for path in sorted(FOLDER.rglob("*")) if path.is_file()}
"""All of them, by their path under `/static/`; nothing else can be asked for."""


METHODS = (HttpMethod.GET, HttpMethod.HEAD)
"""What looks whether a page is there asks for its head alone; the server leaves the body out."""


@route("/", http_method=METHODS, include_in_schema=False)
async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page."""
    return FILES["index.html"].answer(request)


@route("/static/{path:path}", http_method=METHODS, include_in_schema=False)
async def static(request: Request[Any, Any, Any], path: str) -> Response[bytes]:
    """A file of the page."""
    found = FILES.get(path.removeprefix("/"))
    if found is None:
        return Response(b"", status_code=HTTPStatus.NOT_FOUND, media_type="text/plain")
    return found.answer(request)


router = Router("/", route_handlers=[page, static])
