"""The look at all of the inventory: a line for each, whatever the others do."""

import asyncio
from collections.abc import Collection
from typing import cast

from noah.catalog.target_info import TargetInfo
from noah.errors import NotFound, Unavailable
from noah.targets.host.hosts import Hosts
from noah.targets.pod.doctor import Doctor, Finding, Level
from noah.targets.survey import AT_ONCE, survey

NASTY = "no\x1b[2J\nanswer"


class Machines:
    """Hosts of which some hang, refuse, are gone by now or fail for a reason that nobody foresaw."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.at_once = self.most_at_once = 0

    def names(self) -> Collection[str]:
        return self._names

    async def examine(self, host: str) -> tuple[list[str], list[str]]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._look(host.partition("-")[0])
        finally:
            self.at_once -= 1

    async def _look(self, kind: str) -> tuple[list[str], list[str]]:
        await asyncio.sleep(0.001)
        match kind:
            case "hangs":
                await asyncio.Event().wait()
            case "refuses":
                raise Unavailable(NASTY)
            case "gone":
                raise NotFound("It is gone.")
            case "fails":
                raise ZeroDivisionError
        return ["shop can be debugged."], []


class Sound:
    """A doctor who finds that each cluster is well."""

    async def cluster(self, name: str) -> list[Finding]:
        return [Finding(Level.OK, "reachable", f"{name} answers.")]


async def test_each_of_hundreds_has_its_line_in_order_though_some_hang_refuse_or_fail() -> None:
    kinds = ("well", "hangs", "refuses", "well", "fails", "gone")
    machines = Machines(*(f"{kinds[n % 100 % 6 if n % 100 < 6 else 0]}-{n}" for n in range(300)))
    local = [TargetInfo(name="local/shop", app="shop", environment="local", ready=False, phase="Down")]
    async with asyncio.timeout(60):
        lines = await survey(["dev"], cast(Doctor, Sound()), cast(Hosts, machines), local, within_s=5)
    assert [line.what for line in lines] == [
        "cluster/dev",
        *(f"host/{name}" for name in machines.names()),
        "local/shop",
    ]
    said = {line.what.split("/")[1].partition("-")[0]: (line.level, line.message) for line in lines}
    assert said == {
        "dev": (Level.OK, "dev answers."),
        "well": (Level.OK, "shop can be debugged."),
        "hangs": (Level.WARNING, "It was not looked at to the end within 5 s: run `noah doctor` again."),
        "refuses": (Level.ERROR, "no\ufffd[2J answer"),
        "fails": (Level.ERROR, "It cannot be looked at, for a reason that only the gateway's log has."),
        "gone": (Level.ERROR, "It is gone."),
        "shop": (Level.ERROR, "Nothing listens on its port: start it with its debug agent."),
    }
    assert machines.most_at_once == AT_ONCE
