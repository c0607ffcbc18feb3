"""The commands that are the server, or change its database; the only ones that import it, once they are called."""

import click

_config = click.option(
    "--config", metavar="FILE", help="The configuration (default: what NOAH_CONFIG names, else config/noah.toml)."
)


@click.command()
@_config
def serve(config: str | None) -> int:
    """Run the gateway until it is told to stop."""
    from noah.app import serve as serve_until_stopped

    return serve_until_stopped(config)


@click.command()
@click.option("--once", is_flag=True, help="End after the story instead of going on serving.")
@click.option(
    "--cluster",
    is_flag=False,
    flag_value="",
    metavar="[CONTEXT]",
    help="Tell it on a real cluster: your kubeconfig's current context, or this one.",
)
@click.option(
    "--image",
    default="noah.test/java17:1",
    show_default=True,
    help="For --cluster: one that the cluster has, with java, socat, sh and curl.",
)
def demo(*, once: bool, cluster: str | None, image: str) -> int:
    """Show the point of it, with a real debugger on real Java."""
    from noah.demo import run

    return run(once=once, cluster=cluster, image=image)


@click.group()
def db() -> None:
    """Look after the gateway's database."""


@db.command()
@_config
def upgrade(config: str | None) -> None:
    """Bring the database to the schema that this version needs."""
    from noah.app import upgrade_database

    click.echo(upgrade_database(config))
