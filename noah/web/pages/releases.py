"""The pages of releases: which there are, and one as it happens, whose stream its script reads."""

from urllib.parse import urlencode

from pydantic import Field

from noah.core.release.release_event import SHOWN_AS
from noah.web.api import clusters, releases
from noah.web.api.route import Call, Routes
from noah.web.keys import CLOCK
from noah.web.pages.page import Context, page
from noah.web.paths import link_to
from noah.web.wire import Model, Nothing, Text, moment

ROUTES = Routes()


class ReleasesPage(releases.ReleasesQuery):
    # A form sends its empty fields too.
    result: str = Field("", pattern="^(running|done|failed|replaced|lost)?$")  # type: ignore[assignment]


class ReleasePage(Model):
    """The filter of the stream; the page's script reads it from the address."""

    filter: Text | None = None
    pod: Text | None = None
    container: Text | None = None
    since: Text | None = None
    previous: Text | None = None
    wrap: Text | None = None
    hide: Text | None = None


@page(ROUTES, "/releases", "releases.html")
async def release_list(call: Call[ReleasesPage, Nothing]) -> Context:
    given = call.query.model_dump(by_alias=True, exclude_unset=True)
    given = {name: value for name, value in given.items() if value}
    query = releases.ReleasesQuery.model_validate(given)
    shown = await releases.find_releases(call.request, query)
    stays = {name: value for name, value in given.items() if name != "continue"}

    def at(token: str | None) -> str | None:
        return None if token is None else link_to(call.request, f"/releases?{urlencode({**stays, 'continue': token})}")

    return {
        "here": "releases",
        "clusters": [one.name for one, _ in await clusters.shown(call.request)],
        "query": query,
        "filtered": bool(stays.keys() - {"limit"}),
        "rows": [releases.release_json(one) for one in shown.items],
        "total": shown.total,
        "previous": at(shown.before),
        "next": at(shown.after),
    }


@page(ROUTES, "/releases/{id}", "release.html")
async def release(call: Call[ReleasePage, Nothing]) -> Context:
    answer = await releases.show_release(Call(call.request, Nothing(), Nothing()))
    return {"here": "releases", "release": answer.json, "shown_as": SHOWN_AS, "now": moment(call.request.app[CLOCK]())}
