"""The command line. All but serve, demo, db and token speak HTTP to a gateway and import nothing of the server.

A person reads the first line of what a command prints, a script its exit code and -o json; neither ever gets a
traceback for what somebody typed, configured or switched off.
"""

import importlib
import io
import os
import sys
from pathlib import Path

import click

from noah.cli.exit_codes import ExitCode, exit_code_of
from noah.cli.terminal import echo
from noah.errors import NoahError

INSTALL_SERVER = "pip install 'noah-gateway[server]'"

COMPLETION_VARIABLE = "_NOAH_COMPLETE"  # a shell sets it to ask for what it may offer

# The module of each command, in the order in which a developer meets them. It is imported when its command is called:
# a prompt, or a key that completes a name, waits for nothing else.
COMMANDS = {
    "enable": "enable",
    "environments": "environments",
    "targets": "targets",
    "clusters": "clusters",
    "sessions": "sessions",
    "extend": "sessions",
    "end": "sessions",
    "resume": "sessions",
    "share": "sessions",
    "join": "sessions",
    "take": "sessions",
    "events": "events",
    "connect": "connect",
    "ide": "ide",
    "doctor": "doctor",
    "drift": "drift",
    "inventory": "inventory",
    "trail": "trail",
    "probe-spec": "probe_spec",
    "release": "release",
    "inject": "inject",
    "eject": "inject",
    "webhook": "webhook",
    "login": "login",
    "logout": "login",
    "serve": "server",
    "demo": "server",
    "db": "server",
    "token": "token",
    "completion": "completion",
    "explain": "explain",
    "version": "version",
}


class _CommandsByModule(click.Group):
    """Imports the module of a command once that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"noah.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(
    cls=_CommandsByModule,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
\b
Targets:
  pod/CLUSTER/NAMESPACE/POD[/CONTAINER]   one pod, by its full name
  deploy/NAME, app=NAME                   the oldest ready pod of that deployment or app;
                                          also sts/NAME, ds/NAME, job/NAME, rollout/NAME
  host/HOST/APP, local/NAME               an app on a host, a JVM on the gateway's machine
  With --cluster and -n, pod/NAME, deploy/NAME, app=NAME and the like are looked for there;
  with --env in that environment, where app=NAME may be on a host too.

\b
Environment:
  NOAH_URL      where the gateway is (default http://127.0.0.1:7070)
  NOAH_TOKEN    a token, instead of `noah login`; a gateway on your own machine asks for neither
  NOAH_ENV      the environment to look in, unless --env, -n or --cluster says otherwise
  NOAH_CONFIG   the gateway's configuration, for serve and db (default config/noah.toml)
  NO_COLOR      no colours, when set

\b
Exit codes:
  0  done
  1  something unexpected: a bug, or something that is not a Noah gateway answers
  2  the command or its input is wrong
  3  there is no such cluster, target or session
  4  somebody else holds it, or something is in the way
  5  the gateway cannot be reached, or something that it needs is away
  6  the target cannot be debugged as it is, or its session failed
  7  not done in the time that --timeout gives it
  8  you may not do that, or have to log in first
  130  interrupted
""",
)
@click.pass_context
def noah(ctx: click.Context) -> None:
    """Debug Java in test environments: a breakpoint in seconds, and nothing gets killed.

    \b
      noah targets                        what can be debugged
      noah enable deploy/shop --wait      debug it: prints the address for your IDE
      noah end deploy/shop                stop debugging it
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def run(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result = noah.main(args, prog_name=_called(), complete_var=COMPLETION_VARIABLE, standalone_mode=False)
    except (click.ClickException, NoahError) as e:
        return report(e)
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing in ("", "noah"):
            raise
        echo(f"Error: This command is the server's, and {missing} is not installed: {INSTALL_SERVER}.", err=True)
        return ExitCode.USAGE
    except click.Abort:
        return 130  # 128 + SIGINT, as a shell says it
    return result if isinstance(result, int) else 0


def report(error: click.ClickException | NoahError) -> int:
    """Print what a command has raised and return its exit code. The text may be from anywhere."""
    if isinstance(error, click.ClickException):
        said = io.StringIO()
        error.show(said)
        echo(said.getvalue(), err=True, nl=False)
        return error.exit_code
    echo(f"Error: {error.sentence}", err=True)
    if sys.stderr.isatty():  # a script has no use for it
        echo(f"`noah explain {error.code}` says more.", err=True)
    return exit_code_of(error)


def _called() -> str:
    return "kubectl noah" if Path(sys.argv[0]).name.startswith("kubectl-noah") else "noah"
