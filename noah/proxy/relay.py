"""Two sockets and the bytes between them."""

import asyncio
from collections.abc import Awaitable, Callable

# Connects to the JVM's JDWP port: like loop.create_connection() with everything but the protocol factory filled in.
Dial = Callable[[Callable[[], asyncio.BufferedProtocol]], Awaitable[asyncio.Transport]]
