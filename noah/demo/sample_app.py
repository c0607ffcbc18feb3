"""The sample app: a small web shop's order service, whose breakpoint the demonstration stops at."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import aiohttp

from noah.demo.supervisor import Supervised
from noah.errors import BadSettings
from noah.inpod import script


async def compile_sample(folder: Path) -> Path:
    """Compile the sample app into *folder* and return it. Raises BadSettings."""
    source = Path(__file__).with_name("OrderService.java")
    argv = ["javac", "--release", "8", "-Xlint:-options", "-g", "-d", str(folder), str(source)]
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    if process.returncode:
        raise BadSettings(f"javac does not compile the sample app: {err.decode(errors='replace').strip()[-300:]}")
    return folder


class Sample:
    """One copy of the sample app: its ports, its command and its probe."""

    def __init__(self, name: str, *, classes: Path, knows_debugging: bool) -> None:
        self.name = name
        self.port, self.jdwp = free_port(), free_port()
        self.checkurl = f"http://127.0.0.1:{self.port}/checkurl"
        agent = f"transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{self.jdwp},quiet=y"
        plain = ["curl", "-fs", "-o", "/dev/null", "-m", "1", "--noproxy", "*", self.checkurl]
        expression = ["sh", "-c", script("liveness"), "noah-liveness", self.checkurl, "1", name]
        self.app = Supervised(
            argv=["java", f"-agentlib:jdwp={agent}", "-Xshare:auto", "-cp", str(classes), "OrderService"],
            env={"PORT": str(self.port)},
            probe=expression if knows_debugging else plain,
            log=classes / f"{name}.log",
        )

    async def order(self) -> None:
        """Order something; the answer does not matter."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as http:
                await http.get(f"http://127.0.0.1:{self.port}/orders")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
