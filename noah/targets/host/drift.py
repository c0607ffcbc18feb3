"""Where a host, and what the store and the configuration know of it, have drifted apart."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from noah.core.host import options
from noah.core.host.edits import HostEdit
from noah.core.session.target import HostTarget
from noah.errors import NoahError
from noah.targets.host.app import HostedApp, sleeps

TAKES = 20.0  # seconds, for all hosts at once

Finding = Literal["flags-without-session", "session-without-flags", "not-configured", "unknown"]


@dataclass(frozen=True, slots=True)
class Drift:
    """A finding: debug flags without a session, a session whose flags are gone, or a host that does not answer."""

    target: HostTarget
    finding: Finding
    detail: str


async def of(app: HostedApp, *, held: bool) -> Drift | None:
    if app.app.options_file is None:
        return None
    try:
        async with asyncio.timeout(TAKES):
            there = bool(options.debug_ports((await app.read_options(app.app.options_file)).content))
            listens = not sleeps(await app.forwarder("look", "doctor"))
    except NoahError as e:
        return Drift(app.target, "unknown", e.sentence)
    except TimeoutError:
        return Drift(app.target, "unknown", f"{app.where} does not answer within {TAKES:.0f} s.")
    if there and not held:
        return Drift(app.target, "flags-without-session", f"{app.app.options_file} has debug flags, and nobody debugs.")
    if held and not there and not listens:
        return Drift(app.target, "session-without-flags", f"{app.app.options_file} has no debug flags any more.")
    return None


def forgotten(edit: HostEdit) -> Drift:
    """Return the finding about a host that the configuration has lost; it cannot be asked any more."""
    return Drift(
        edit.target,
        "not-configured",
        f"{edit.file} may still have the debug flags of session {edit.session}, and the configuration does not have "
        f"{edit.target} any more: add it again and restart the gateway, and they are taken out.",
    )
