"""Every page, and what pages are made of."""

from noah.web.api.route import AnyRoute
from noah.web.pages import clusters, environments, help_page, login, releases, sessions, static_files, targets, trail

PAGES: tuple[AnyRoute, ...] = tuple(
    route
    for pages in (environments, targets, sessions, releases, clusters, trail, static_files, login, help_page)
    for route in pages.ROUTES.declared
)
