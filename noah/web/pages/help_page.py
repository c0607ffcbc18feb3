"""The page that says what each error means: /help#CODE, which every problem of the API links to."""

import re
from html import escape

from aiohttp import web

from noah.core.session.rights import Right
from noah.help import explanations
from noah.web.api.route import Call, Routes
from noah.web.pages.page import render_form
from noah.web.wire import Nothing

ROUTES = Routes()
# Of Markdown, what troubleshooting.md has of it. Links lead to other pages of the site, which a gateway does not have.
_INLINE = (
    (r"\[([^\]]*(?:\[[^\]]*\])*[^\]]*)\]\([^)]*\)", r"\1"),
    (r"`([^`]+)`", r"<code>\1</code>"),
    (r"\*([^*]+)\*", r"<em>\1</em>"),
)


@ROUTES.raw("/help", right=Right.ANYBODY, summary="What each error means.", content_types=("text/html",))
async def what_errors_mean(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    sections = {code: [_html(part) for part in text.split("\n\n")] for code, text in explanations().items()}
    return render_form(call.request, "help.html", {"sections": sections})


def _html(text: str) -> str:
    """Return a paragraph or a list, escaped."""
    html = escape(text)
    for pattern, into in _INLINE:
        html = re.sub(pattern, into, html)
    if not html.startswith("- "):
        return f"<p>{html}</p>"
    items = "".join(f"<li>{item}</li>" for item in re.split(r"^- ", html, flags=re.MULTILINE)[1:])
    return f"<ul>{items}</ul>"
