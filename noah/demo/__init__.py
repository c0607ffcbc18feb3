"""`noah demo`: shows the point in half a minute, with nothing but a JDK; then goes on serving until Ctrl-C."""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path

from noah.app import gateway, run_until_done
from noah.demo.on_cluster import story
from noah.demo.story import Sample, complain, say, talking_to, told
from noah.demo.supervisor import supervised
from noah.errors import BadSettings, NoahError, Unavailable
from noah.settings import parse_settings
from noah.store import upgrade

LISTEN = "127.0.0.1:7070"


def run(*, once: bool, cluster: str | None, image: str) -> int:
    """The exit code.

    *cluster*: tell it on this kubeconfig context's cluster; "" means the current context. *image*: has java, socat, sh
    and curl.
    """
    try:
        needs("java", "javac", "jdb", "curl")
        with tempfile.TemporaryDirectory(prefix="noah-demo-") as folder:
            if cluster is not None:
                run_until_done(_there(Path(folder), context=cluster or None, image=image))
            else:
                run_until_done(_here(Path(folder), once=once))
    except NoahError as e:
        complain(e)
        return 5 if isinstance(e, Unavailable) else 2
    except KeyboardInterrupt:
        return 130
    return 0


def needs(*commands: str) -> None:
    """BadSettings, with what to install, when one is missing."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise BadSettings(
            f"The demo needs {', '.join(missing)}: `apt-get install openjdk-17-jdk-headless curl` has them on Debian."
        )


async def compiled(folder: Path) -> Path:
    """The sample app's classes, in *folder*."""
    source = Path(__file__).with_name("OrderService.java")
    argv = ["javac", "--release", "8", "-Xlint:-options", "-g", "-d", str(folder), str(source)]
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    if process.returncode:
        raise BadSettings(f"javac does not compile the sample app: {err.decode(errors='replace').strip()[-300:]}")
    return folder


async def _there(folder: Path, *, context: str | None, image: str) -> None:
    await compiled(folder)
    classes = await asyncio.to_thread(lambda: {file.name: file.read_bytes() for file in folder.glob("*.class")})
    await story(folder, classes=classes, context=context, image=image)


async def _here(folder: Path, *, once: bool) -> None:
    say("Compiling two copies of a sample app and starting them ...")
    classes = await compiled(folder)
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
    async with gateway(settings) as url, supervised(plain.app, wise.app), talking_to(url) as api:
        await told(plain, wise, api)
        if not once:
            await _goes_on(url, wise)


async def _goes_on(url: str, sample: Sample) -> None:
    say(f"\nNow it is your turn; both apps go on. The gateway serves {url} until Ctrl-C. In another terminal:\n")
    say("   noah targets")
    say(f"   noah enable local/{sample.name} --wait")
    say(
        f"   jdb -attach 127.0.0.1:PORT      then: stop in OrderService.price, and: curl 127.0.0.1:{sample.port}/orders"
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
