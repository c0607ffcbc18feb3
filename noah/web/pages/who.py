"""The form with which people say who they are."""

import re
from urllib.parse import parse_qsl

from aiohttp import web

from noah.core.session.rights import Right
from noah.errors import BadInput, NoahError
from noah.web.api.route import Call, Routes, read_sent
from noah.web.identity import remember
from noah.web.paths import link_to
from noah.web.wire import Nothing

ROUTES = Routes()
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 10  # the form has two


class NotAForm(NoahError):
    """A form is sent as application/x-www-form-urlencoded."""

    http_status = 415


@ROUTES.raw("/who", method="POST", right=Right.ANYBODY, summary="Say who you are.", content_types=("text/html",))
async def say_who(call: Call[Nothing, Nothing]) -> web.Response:
    form = await _form(call.request)
    back = form.get("next", "/")
    # Only into this site: "//elsewhere" and "/\elsewhere" lead out of it.
    back = back if re.match(r"/(?![/\\])[!-~]*$", back) else "/"
    response = web.Response(status=303, headers={"Location": link_to(call.request, back)})
    remember(call.request, response, form.get("user", "").strip())
    return response


async def _form(request: web.Request) -> dict[str, str]:
    sent = await read_sent(request)
    if request.content_type != FORM:
        raise NotAForm()
    try:
        return dict(parse_qsl(sent.decode(), errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:  # also what is not UTF-8
        raise BadInput(f"The form cannot be read: it has at most {MOST_FIELDS} fields, in UTF-8.") from None
