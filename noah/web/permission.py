"""What the person who asks may do: every handler asks here, before it answers.

Whatever answers without having asked is refused (site.py): a route that was forgotten shows nothing to anybody.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

from aiohttp import web

from noah.core.session.principal import Principal
from noah.core.session.rights import OF_GATEWAY, Allowed, Denied, Right, may_do_everything
from noah.core.session.trail import Outcome, TrailCode
from noah.errors import Forbidden, NoahError, NotFound, Unavailable
from noah.web.forwarded import remote_for_log
from noah.web.identity import known_principal, principal_of
from noah.web.keys import BROKER, PERMISSIONS, REQUEST_ID, TRAIL
from noah.web.paths import path_inside

NEEDED = web.RequestKey("right_needed", Right)  # by the route of the request
ASKED = web.RequestKey("right_asked", bool)


async def enter(request: web.Request, right: Right) -> None:
    """Note the right that a route needs. One on the gateway itself is demanded here; the others by the handler."""
    request[NEEDED] = right
    if right is Right.ANYBODY:
        return
    if known_principal(request) is None:
        request[ASKED] = True  # whatever the answer is, it is that of a refusal
    await request.app[BROKER].renew(principal_of(request))
    if right in OF_GATEWAY:
        await demand(request, right)


def forgot_to_ask(request: web.Request) -> bool:
    return request.get(NEEDED, Right.ANYBODY) is not Right.ANYBODY and not request.get(ASKED)


async def may(request: web.Request, right: Right, area: str | None) -> bool:
    request[ASKED] = True
    return await is_allowed(request, right, area)


async def is_allowed(request: web.Request, right: Right, area: str | None = None) -> bool:
    """The same for what an answer shows beside; the answer itself is still to be asked for."""
    verdict = await request.app[PERMISSIONS].decide(right, area, principal_of(request))
    return isinstance(verdict, Allowed)


async def may_do(request: web.Request, area: str) -> dict[str, bool]:
    """Return what a page offers to do with a target: it shows no button that would be refused."""
    return {
        "may_debug": await is_allowed(request, Right.DEBUG, area),
        "may_free": await is_allowed(request, Right.FREE, area),
    }


async def demand(request: web.Request, right: Right, area: str | None = None, *, called: str = "") -> None:
    """Raise NotFound for an area that may not be seen, as if *called* did not exist; else Forbidden for the right.

    Raises Unavailable if a cluster does not say whether the right is there.
    """
    request[ASKED] = True
    permissions, principal = request.app[PERMISSIONS], principal_of(request)
    wanted = (right,) if area is None else (Right.SEE, right)
    # At the same time, since each may be a question to a cluster.
    verdicts = await asyncio.gather(*(permissions.decide(one, area, principal) for one in wanted))
    if area is not None and isinstance(verdicts[0], Denied):
        refusal: NoahError = not_there(called or area)
    elif isinstance(verdict := verdicts[-1], Allowed):
        return
    else:
        refusal = Forbidden(verdict.sentence) if verdict.is_certain else Unavailable(verdict.sentence)
    record(request, TrailCode.DENIED, target=area or "", outcome=Outcome.DENIED, sentence=refusal.sentence)
    raise refusal


async def seen(request: web.Request, areas: Iterable[str], right: Right = Right.SEE) -> Collection[str] | None:
    """Return those of *areas* in which the person has the right; None: in all of them."""
    request[ASKED] = True
    principal = principal_of(request)
    if may_do_everything(principal) and (principal.at_most is None or right in principal.at_most):
        return None
    asked = frozenset(areas)
    found = await request.app[PERMISSIONS].among(asked, principal, right)
    return None if asked and found == asked else found


def not_there(called: str) -> NotFound:
    return NotFound(f"There is no {called[:200]} that you may see.")


def record(request: web.Request, code: TrailCode, *, who: Principal | None = None, **more: Any) -> None:
    """Add a row about the request to the trail; *who*: not its sender; *more* is what Entry has."""
    via = "api" if path_inside(request).startswith("/api/") else "page"
    request.app[TRAIL].record(
        code,
        who=who or known_principal(request),
        via=via,
        address=remote_for_log(request),
        request_id=request.get(REQUEST_ID, ""),
        **more,
    )
