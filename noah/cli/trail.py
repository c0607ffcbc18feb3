"""`noah trail`: what people and debuggers did, and whether any of it is missing."""

import click

from noah.cli.output import Column, output_option, print_data, print_list
from noah.cli.terminal import BAD, echo
from noah.client.environment import client_from_environment

COLUMNS = (
    Column("ROW", lambda row: row["number"]),
    Column("TIME", lambda row: row["at"][:19] + "Z"),
    Column("WHAT", lambda row: row["code"]),
    Column("WHO", lambda row: row["who"] and row["who"]["name"]),
    Column("FROM", lambda row: row["from"]),
    Column("OUTCOME", lambda row: row["outcome"], {"denied": BAD, "failed": BAD}),
    Column("TARGET", lambda row: row["target"]),
    Column("SESSION", lambda row: row["session"]),
    Column("IN WORDS", lambda row: row["sentence"]),
)


@click.command()
@click.option("--code", help="Only rows of this kind: denied, session.enabled, debugger.attached, ...")
@click.option("--who", metavar="NAME", help="Only what this person did.")
@click.option("--target", metavar="TARGET", help="Only what was done to targets whose name begins so.")
@click.option("--session", metavar="SESSION", help="Only rows of this session.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many rows.")
@click.option("--verify", is_flag=True, help="Check instead that no row is missing and none was changed.")
@output_option
def trail(
    *,
    code: str | None,
    who: str | None,
    target: str | None,
    session: str | None,
    limit: int,
    verify: bool,
    output: str | None,
) -> int:
    """Show what people and debuggers did, the newest first.

    Each row carries a hash of the row before it. --verify says whether the chain is whole, and prints the last hash:
    kept elsewhere, it shows later whether newer rows were cut off.
    """
    gateway = client_from_environment()
    if not verify:
        wanted = {"code": code, "who": who, "target": target, "session": session}
        found = gateway.items("/trail", wanted, limit=limit)
        print_list(found, output, COLUMNS, name=lambda row: str(row["number"]), nothing="No rows found.")
        return 0
    verdict = gateway.get("/trail/verification")
    if output in ("json", "yaml"):
        print_data(verdict, output)
    elif verdict["whole"]:
        rows = f"Rows {verdict['first']} to {verdict['last']} are whole." if verdict["last"] else "The trail is empty."
        echo(rows + (f" The last hash is {verdict['last_hash']}." if verdict["last"] else ""))
    else:
        for problem in verdict["problems"]:
            echo(problem)
    return 0 if verdict["whole"] else 1
