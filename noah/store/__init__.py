"""Every statement that the database is sent, and the feed of events."""

from noah.store.revisions import downgrade, upgrade
from noah.store.store import Store

__all__ = ["Store", "downgrade", "upgrade"]
