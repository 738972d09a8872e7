"""Templates, and the answers that are not pages of data: errors, the login's messages."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dashboard import formats
from dashboard.charts import scales
from dashboard.web.sessions import Sessions

HERE = Path(__file__).resolve().parent.parent
STATIC = HERE / "static"


@cache
def asset(name: str) -> str:
    """Return the address of a static file, which changes when the file does."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def _finished(value: Any) -> Any:
    """What stands on a page for a value. A value that goes back to us (``value="{{ it | e }}"``) stays as it is."""
    return formats.visible(value) if type(value) is str else value


class Renderer:
    """Fills templates. Everything is escaped; only the charts, which a serialiser wrote, are not once more.

    Args:
        sessions: makes the CSRF tokens of forms.
        refresh_s: seconds between two refreshes of an open page.
    """

    def __init__(self, sessions: Sessions, *, refresh_s: float) -> None:
        self._sessions = sessions
        self._refresh_s = refresh_s
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            finalize=_finished,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(f=formats, charts=scales, asset=asset)

    def page(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        """Return a page.

        Args:
            request: whom it is for.
            template: a file in templates/.
            status: of the answer.
            context: what the template names.
        """
        state = request.scope.get("state", {})
        session = state.get("session")
        text = self._templates.get_template(template).render(
            request_path=request.url.path,
            request_query=request.url.query,
            user=session.user if session else None,
            csrf_token=self._sessions.csrf_token(session.id) if session else "",
            refresh_s=self._refresh_s,
            **context,
        )
        return HTMLResponse(text, status)

    def message(self, request: Request, status: int, title: str, sentence: str) -> Response:
        """Return a page that says one thing: an error, a refusal."""
        return self.page(request, "message.html", status, title=title, sentence=sentence, number=status)
