"""An event stream of the gateway, over cuts of the connection and restarts of the gateway: no gap, nothing twice.

After a cut it connects again from the last event's ID, however long that takes.
"""

import json
import time
from collections.abc import Callable, Iterator

from noah.backoff import Backoff
from noah.client.errors import Away, NotAGateway
from noah.client.event_reader import EventReader
from noah.client.gateway_client import GatewayClient, Json, Query
from noah.errors import NotFound

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # between two attempts to connect again


class EventStream:
    """Iterates over the events at *path*; ends only with its caller.

    *notify* is called with a sentence when the gateway is away, and when it is back.
    """

    def __init__(
        self,
        client: GatewayClient,
        path: str,
        query: Query,
        *,
        notify: Callable[[str], None],
        find_again: Callable[[], str] | None = None,
    ) -> None:
        """*find_again*: returns another path if the gateway, after a restart, does not know the one before."""
        self._client = client
        self._path, self._query = path, query
        self._notify = notify
        self._find_again = find_again

    def __iter__(self) -> Iterator[Json]:
        """Yield each event's data. Raises Away only if the gateway cannot be reached at first."""
        reader = EventReader()
        pieces = self._open(None)
        while True:
            try:
                for piece in pieces:
                    for event in reader.feed(piece):
                        yield json.loads(event.data)
            except ValueError:
                raise NotAGateway(f"{self._client.url} does not send a gateway's events: is NOAH_URL right?") from None
            except Away:
                pass
            reader = EventReader(reader.last_id)
            pieces = self._open_again(reader.last_id)

    def _open(self, last_id: str | None) -> Iterator[bytes]:
        return self._client.stream(self._path, self._query, last_id=last_id)

    def _open_again(self, last_id: str | None) -> Iterator[bytes]:
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            time.sleep(backoff.next_s())
            try:
                pieces = self._found_again(last_id)
            except Away as e:
                if backoff.failures == 1:
                    self._notify(f"The gateway is away ({e.reason}); waiting for it.")
            else:
                if backoff.failures > 1:
                    self._notify("The gateway is back.")
                return pieces

    def _found_again(self, last_id: str | None) -> Iterator[bytes]:
        try:
            return self._open(last_id)
        except NotFound:
            if self._find_again is None:
                raise
            self._path = self._find_again()
            return self._open(last_id)
