"""Which hosts there are: those of the configuration, and those that its command prints when the gateway starts."""

import asyncio
import json

from noah.errors import BadSettings
from noah.settings import Host, Settings, parse_settings
from noah.targets import command

COMMAND_TAKES = 30.0  # seconds


async def all_hosts(settings: Settings) -> tuple[Host, ...]:
    """Return the hosts. BadSettings, with what the command printed, if it fails or prints something else."""
    if not settings.hosts_command:
        return settings.hosts
    named = f"hosts_command ({settings.hosts_command[0]})"
    printed = await _printed(settings.hosts_command, named)
    try:
        tree = json.loads(printed)
    except ValueError as e:
        raise BadSettings(f"{named} does not print JSON: {e}.") from None
    configured = [host.model_dump() for host in settings.hosts]
    if not isinstance(tree, list):
        raise BadSettings(f"{named} has to print a JSON list of hosts.")
    return parse_settings({"hosts": [*configured, *tree]}, origin=named).hosts


async def _printed(argv: tuple[str, ...], named: str) -> bytes:
    try:
        code, out, err = await command.run(argv, timeout=COMMAND_TAKES, stderr=asyncio.subprocess.PIPE)
    except TimeoutError:  # which is an OSError too
        raise BadSettings(f"{named} took longer than {COMMAND_TAKES:.0f} s.") from None
    except OSError as e:
        raise BadSettings(f"{named} cannot be run: {e.strerror}.") from None
    if code:
        said = err.decode("utf-8", "replace").strip().splitlines()
        raise BadSettings(f"{named} failed with exit code {code}: {said[-1] if said else 'it printed nothing'}.")
    return out
