"""Routes of the pages at `/`, `/schema`, `/catalog`, `/anomalies` and `/dashboards`: their static files and security headers."""

import mimetypes
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

from litestar import HttpMethod, Request, Response, Router, route
from litestar.datastructures import CacheControlHeader

HttpRequest = Request[Any, Any, Any]

FOLDER = Path(__file__).parent
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
SECURITY_HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",  # Swagger UI's style sheet holds its icons
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
"""Let the page load from and connect to this server only, so that injected markup could do no harm."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, held in memory."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "StaticFile":
        """Read a file and hash its content for the ETag."""
        content = path.read_bytes()
        media_type = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(content, media_type, f'"{sha256(content).hexdigest()[:32]}"')

    def response(self, request: HttpRequest) -> Response[bytes]:
        """Respond with the file, or with 304 if the browser already has this version."""
        headers = {**SECURITY_HEADERS, "etag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        cache = CacheControlHeader(no_cache=True)  # the browser must revalidate, so an upgrade shows at once
        return Response(
            self.content, media_type=self.media_type, headers={**headers, "cache-control": cache.to_header()}
        )


FILES = {
    path.relative_to(FOLDER).as_posix(): StaticFile.read(path)
    for path in sorted(FOLDER.rglob("*"))
    if path.is_file() and path.suffix not in {".py", ".pyc"}
}
"""All files of the page but this package's modules, by their path under `/static/`. Nothing else can be requested."""

METHODS = (HttpMethod.GET, HttpMethod.HEAD)
"""HEAD too, because health checks request only the headers. The server leaves the body out."""


@route("/", http_method=METHODS, include_in_schema=False)
async def page(request: HttpRequest) -> Response[bytes]:
    """Serve the page."""
    return FILES["index.html"].response(request)


@route("/schema", http_method=METHODS, include_in_schema=False)
async def schema_page(request: HttpRequest) -> Response[bytes]:
    """Serve the page that shows the OpenAPI document."""
    return FILES["schema.html"].response(request)


@route(
    ["/catalog", "/catalog/{layer:str}/{name:str}", "/anomalies", "/dashboards", "/dashboards/{name:str}"],
    http_method=METHODS,
    include_in_schema=False,
)
async def pages(request: HttpRequest) -> Response[bytes]:
    """Serve the pages of the catalog, of anomalies and of dashboards. Their script builds the one that the address names."""
    return FILES["pages.html"].response(request)


@route("/static/{path:path}", http_method=METHODS, include_in_schema=False)
async def static(request: HttpRequest, path: str) -> Response[bytes]:
    """Serve a file of the page."""
    file = FILES.get(path.removeprefix("/"))
    if file is None:
        return Response(b"", status_code=HTTPStatus.NOT_FOUND, media_type="text/plain")
    return file.response(request)


router = Router("/", route_handlers=[page, schema_page, pages, static])
