"""`noah ide`: a session's run configuration, printed, or put where the IDE looks for it."""

from pathlib import Path

import click

from noah.cli.sessions import session_argument
from noah.cli.target_names import Place, find_session, place_options
from noah.cli.terminal import echo
from noah.client.environment import client_from_environment
from noah.client.gateway_client import session_path
from noah.errors import BadInput, Conflict

FORMATS = ["intellij", "vscode", "eclipse", "jdb"]


@click.command()
@session_argument
@place_options
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True, help="For which debugger.")
@click.option("--write", is_flag=True, help="Put it where the IDE looks, from this directory: the project's root.")
@click.option("--force", is_flag=True, help="Let --write replace a file that has other content.")
def ide(*, session: str, place: Place, kind: str, write: bool, force: bool) -> None:
    """Print a session's run configuration for your IDE.

    \b
      intellij   .run/NAME.run.xml
      eclipse    NAME.launch
      vscode     a snippet for .vscode/launch.json, which is yours and is never written
      jdb        the command line
    """
    gateway = client_from_environment()
    session_id = find_session(gateway, session, place)
    name, text = gateway.file(session_path(session_id, f"/ide/{kind}"))
    if write and kind in ("intellij", "eclipse"):
        echo(_put(_place(kind, name or f"noah-{session_id}"), text, force=force))
        return
    echo(text, nl=not text.endswith("\n"))
    if write and kind == "vscode":
        echo('Nothing was written: put this into .vscode/launch.json, under "configurations".', err=True)
    elif write:
        echo("Nothing was written: jdb reads no file; this is its command line.", err=True)


def _place(kind: str, suggested: str) -> Path:
    """Use only the last part of the name that the gateway suggests, so that nothing is written elsewhere."""
    folder, suffix = (Path(".run"), ".run.xml") if kind == "intellij" else (Path(), ".launch")
    name = suggested.replace("\\", "/").rpartition("/")[2].lstrip(".").removesuffix(suffix)
    return folder / f"{name or 'noah'}{suffix}"


def _put(file: Path, text: str, *, force: bool) -> str:
    try:
        if file.exists():
            if file.read_text() == text:
                return f"{file} is up to date."
            if not force:
                raise Conflict(f"{file} exists and has other content: --force replaces it.")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{file} cannot be written: {getattr(e, 'strerror', None) or e}.") from None
    return f"Wrote {file}."
