"""What the site's handlers may ask for, by type; what is the site's own has its key beside it."""

from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web

from noah.access.authenticator import Authenticator
from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.kube.clusters import Cluster
from noah.releases.releases import Releases
from noah.sessions.broker import Broker
from noah.settings import Settings
from noah.store.feed import Feed
from noah.store.trail import TrailStore
from noah.targets.host.hosts import Hosts
from noah.targets.pod.doctor import Doctor

AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
CATALOG = web.AppKey("catalog", Catalog)
HOLDERS = web.AppKey("holders", Holders)
BROKER = web.AppKey("broker", Broker)
RELEASES = web.AppKey("releases", Releases)
FEED = web.AppKey("feed", Feed)
CLUSTERS = web.AppKey("clusters", Mapping[str, Cluster])
HOSTS = web.AppKey("hosts", Hosts)
TRAIL = web.AppKey("trail", Trail)  # where rows are recorded
TRAIL_ROWS = web.AppKey("trail_rows", TrailStore)  # where they are read
PERMISSIONS = web.AppKey("permissions", Permissions)
DOCTOR = web.AppKey("doctor", Doctor)
SETTINGS = web.AppKey("settings", Settings)
REQUEST_ID = web.RequestKey("request_id", str)
CLOCK: web.AppKey[Callable[[], datetime]] = web.AppKey("clock")
