"""`/docs`: Swagger UI out of this installation. The page takes keys, so that nothing on it may come from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import Final

from fastapi import FastAPI, HTTPException
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

_ASSETS: Final = "fastapi_swagger.resources"
_KINDS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_PARAMETERS: Final = {
    "displayRequestDuration": True,
    "persistAuthorization": False,  # a key is for as long as the page is open
    "validatorUrl": None,  # it would send the description to a service elsewhere
}
# The inline script is FastAPI's few lines that start Swagger UI, which itself sets styles on its elements.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' '{script}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def add_docs(app: FastAPI) -> None:
    """Give the application its page at `/docs`, and the page its script, style and icon."""
    page = get_swagger_ui_html(
        openapi_url=app.openapi_url or "",
        title=app.title,
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon-32x32.png",
        swagger_ui_parameters=_PARAMETERS,
    )
    page.headers["content-security-policy"] = _policy(bytes(page.body))

    async def docs() -> HTMLResponse:
        return page

    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/docs/{name}", _asset, include_in_schema=False)


def _policy(page: bytes) -> str:
    """What the page may load, and the one script in it."""
    scripts = _INLINE.findall(page)
    if len(scripts) != 1:
        raise ValueError(f"the page has {len(scripts)} scripts of its own: one was expected")
    digest = base64.b64encode(hashlib.sha256(scripts[0]).digest()).decode()
    return _POLICY.format(script=f"sha256-{digest}")


async def _asset(name: str) -> Response:
    """One of the page's files."""
    if name not in _KINDS:
        raise HTTPException(404, "no such page")
    return Response(_read(name), media_type=_KINDS[name])


@cache
def _read(name: str) -> bytes:
    return resources.files(_ASSETS).joinpath(name).read_bytes()
