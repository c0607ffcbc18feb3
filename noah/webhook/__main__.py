"""The webhook's process: reads its settings as a line of stdin, serves until stdin ends (noah.webhook.process)."""

import asyncio
import sys

from noah.clock import machine_clock
from noah.errors import BadSettings
from noah.process_log import log_to_stderr
from noah.settings import WebhookSettings
from noah.webhook.process import READY
from noah.webhook.server import serving


async def _serve() -> None:
    wanted = WebhookSettings.model_validate_json(sys.stdin.buffer.readline())
    ended = asyncio.Event()
    async with serving(wanted, machine_clock):
        print(READY, flush=True)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
        await ended.wait()


def main() -> int:
    log_to_stderr()
    try:
        asyncio.run(_serve())
    except BadSettings as e:
        print(e.sentence, flush=True)
        return 2
    except KeyboardInterrupt:
        pass  # the gateway gets the same one
    return 0


if __name__ == "__main__":
    sys.exit(main())
