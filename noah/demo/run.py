"""Runs `noah demo`: the demonstration takes half a minute and needs only a JDK; then it serves until Ctrl-C."""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path

from noah.app import gateway, run_until_done
from noah.client.gateway_client import GatewayClient
from noah.demo.on_cluster import run_on_cluster
from noah.demo.on_this_machine import complain, run_on_this_machine, say
from noah.demo.sample_app import Sample, compile_sample
from noah.demo.supervisor import supervised
from noah.errors import BadSettings, NoahError, Unavailable
from noah.settings import parse_settings
from noah.store import upgrade

LISTEN = "127.0.0.1:7070"


def run(*, once: bool, cluster: str | None, image: str) -> int:
    """Run the demonstration and return the exit code.

    *cluster* names a kubeconfig context to run it there, "" the current one; *image* has java, socat, sh and curl.
    """
    try:
        needs("java", "javac", "jdb", "curl")
        with tempfile.TemporaryDirectory(prefix="noah-demo-") as folder:
            if cluster is not None:
                run_until_done(_on_cluster(Path(folder), context=cluster or None, image=image))
            else:
                run_until_done(_on_this_machine(Path(folder), once=once))
    except NoahError as e:
        complain(e)
        return 5 if isinstance(e, Unavailable) else 2
    except KeyboardInterrupt:
        return 130
    return 0


def needs(*commands: str) -> None:
    """Raise BadSettings, with what to install, if one is missing."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise BadSettings(
            f"The demo needs {', '.join(missing)}: `apt-get install openjdk-17-jdk-headless curl` has them on Debian."
        )


async def _on_cluster(folder: Path, *, context: str | None, image: str) -> None:
    await compile_sample(folder)
    classes = await asyncio.to_thread(lambda: {file.name: file.read_bytes() for file in folder.glob("*.class")})
    await run_on_cluster(folder, classes=classes, context=context, image=image)


async def _on_this_machine(folder: Path, *, once: bool) -> None:
    say("Compiling two copies of a sample app and starting them ...")
    classes = await compile_sample(folder)
    plain = Sample("orders-plain", classes=classes, knows_debugging=False)
    wise = Sample("orders", classes=classes, knows_debugging=True)
    settings = parse_settings(
        {
            "gateway": {"listen": LISTEN, "database": f"sqlite:///{folder}/noah.db"},
            "local": [{"name": s.name, "jdwp_port": s.jdwp, "checkurl": s.checkurl} for s in (plain, wise)],
        },
        origin="the demo",
    )
    await asyncio.to_thread(upgrade, settings.gateway.database)
    async with gateway(settings) as serving, supervised(plain.app, wise.app):
        await run_on_this_machine(plain, wise, GatewayClient(serving.url))
        if not once:
            await _serve_until_stopped(serving.url, wise)


async def _serve_until_stopped(url: str, sample: Sample) -> None:
    say(f"\nNow it is your turn; both apps keep running. The gateway serves {url} until Ctrl-C. In another terminal:\n")
    say("   noah targets")
    say(f"   noah enable local/{sample.name} --wait")
    say(
        f"   jdb -attach 127.0.0.1:PORT      then: stop in OrderService.price, and: curl 127.0.0.1:{sample.port}/orders"
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
