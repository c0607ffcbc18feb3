"""`noah webhook`: the manifest that makes API servers ask the gateway about new pods."""

from typing import Any

import click

from noah.cli.manifests.writing import to_yaml
from noah.cli.terminal import echo
from noah.errors import BadSettings


@click.command()
@click.option(
    "--config", metavar="FILE", help="The configuration (default: what NOAH_CONFIG names, else config/noah.toml)."
)
@click.option("--service", metavar="NAMESPACE/NAME", help="Where the gateway runs in that cluster, instead of a URL.")
@click.option("--name", default="noah", show_default=True, help="The name of the MutatingWebhookConfiguration.")
def webhook(config: str | None, service: str | None, name: str) -> None:
    """Print the webhook's manifest: `noah webhook | kubectl apply -f -`.

    It is asked about pods with the label debug.noah/inject=true, in namespaces with the same label. The configuration
    needs a [webhook]; run this where the gateway runs, which keeps the certificates.
    """
    from datetime import UTC, datetime

    from noah.settings import read_settings, settings_file
    from noah.webhook.certificates import Certificates
    from noah.webhook.server import PATH, manifest

    wanted = read_settings(settings_file(config)).webhook
    if wanted is None:
        raise BadSettings('The configuration has no [webhook]: it takes listen = "HOST:PORT" and names = ["HOST"].')
    certificates = Certificates(wanted.folder, wanted.names)
    path = f"{PATH}/{certificates.path_token()}"
    client: dict[str, Any]
    if service is None:
        host = f"[{wanted.names[0]}]" if ":" in wanted.names[0] else wanted.names[0]
        client = {"url": f"https://{host}:{wanted.port}{path}"}
    else:
        namespace, _, its_name = service.partition("/")
        if f"{its_name}.{namespace}.svc" not in wanted.names:
            raise BadSettings(f'[webhook] names needs "{its_name}.{namespace}.svc": API servers ask for that name.')
        client = {"service": {"namespace": namespace, "name": its_name, "path": path, "port": 443}}
    authority = certificates.authority(datetime.now(UTC))
    echo(to_yaml(manifest(name=name, client=client, authority=authority)), nl=False)
