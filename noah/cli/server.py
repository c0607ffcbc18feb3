"""`noah serve`, `noah demo` and `noah db`: the only commands that import the server, once they are called."""

import click

from noah.cli.terminal import echo

_config = click.option(
    "--config", metavar="FILE", help="The configuration (default: what NOAH_CONFIG names, else config/noah.toml)."
)


@click.command()
@_config
def serve(config: str | None) -> int:
    """Run the gateway until it gets SIGTERM or Ctrl-C."""
    from noah.app import serve as serve_until_stopped

    return serve_until_stopped(config)


@click.command()
@click.option("--once", is_flag=True, help="End after the demonstration, instead of serving until Ctrl-C.")
@click.option(
    "--cluster",
    is_flag=False,
    flag_value="",
    metavar="[CONTEXT]",
    help="Run it on a real cluster: your kubeconfig's current context, or this one.",
)
@click.option(
    "--image",
    default="noah.test/java17:1",
    show_default=True,
    help="For --cluster: an image that the cluster has, with java, socat, sh and curl.",
)
def demo(*, once: bool, cluster: str | None, image: str) -> int:
    """Show what the gateway is for, with a real debugger on a real JVM."""
    from noah.demo.run import run

    return run(once=once, cluster=cluster, image=image)


@click.group()
def db() -> None:
    """Look after the gateway's database."""


@db.command()
@_config
def upgrade(config: str | None) -> None:
    """Bring the database to the schema that this version needs."""
    from noah.app import upgrade_database

    echo(upgrade_database(config))
