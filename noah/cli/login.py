"""`noah login` and `noah logout`: by the browser of this machine, by another device, with a kubeconfig or a token."""

import asyncio
import os
import secrets
import sys
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import click

from noah.cli.exit_codes import TimeIsUp
from noah.cli.terminal import echo
from noah.client.credentials import Credentials
from noah.client.environment import anonymous_client, client_from_environment, gateway_url
from noah.client.gateway_client import GatewayClient
from noah.core.pkce import challenge_of
from noah.core.printable import printable
from noah.errors import BadInput, Forbidden, NoahError, Unauthenticated

BACK_WITHIN_S = 300.0  # a person logs in at the provider
DONE = b"<!doctype html><title>Noah</title><p>You are logged in on the command line. You may close this page.\n"


@click.command()
@click.option("--device", is_flag=True, help="Confirm the login on another device: for a machine without a browser.")
@click.option("--provider", metavar="NAME", help="Which of the gateway's providers, if it has several.")
@click.option(
    "--kube-context",
    is_flag=False,
    flag_value="",
    metavar="[CONTEXT]",
    help="Log in with the token of your kubeconfig, of its current context or this one.",
)
@click.option("--cluster", metavar="NAME", help="For --kube-context: which of the gateway's clusters knows you.")
@click.option("--token", "by_token", is_flag=True, help="Keep a token that you have, asked for or from stdin.")
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening a browser.")
def login(
    *,
    device: bool,
    provider: str | None,
    kube_context: str | None,
    cluster: str | None,
    by_token: bool,
    no_browser: bool,
) -> None:
    """Log in to the gateway that NOAH_URL names."""
    url, gateway = gateway_url(), anonymous_client()
    chosen = by_token or device or provider is not None or kube_context is not None
    if not chosen and (name := _known_anyway(gateway)) is not None:
        echo(f"You are {printable(name)} at {url}, which asks you for no login here.")
        return
    if by_token:
        token = click.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        token = token.strip()
    elif kube_context is not None:
        token = _by_kubeconfig(gateway, kube_context, cluster)
    elif device:
        token = _on_device(gateway, _provider(gateway, provider))
    else:
        token = _by_browser(url, gateway, _provider(gateway, provider), opens=not no_browser)
    me = GatewayClient(url, token).get("/me")
    where = Credentials().keep(url, token)
    echo(f"You are {printable(me['principal']['name'])} at {url}. The login is kept in {where}.")


@click.command()
@click.option("--everywhere", is_flag=True, help="End all your logins, in browsers and on other machines too.")
@click.option("--of", "name", metavar="NAME", help="End all logins of this person; for those who operate the gateway.")
def logout(*, everywhere: bool, name: str | None) -> None:
    """End the login at the gateway that NOAH_URL names, and forget it here."""
    url, credentials = gateway_url(), Credentials()
    if name is not None:
        ended = client_from_environment().delete(f"/logins/{quote(name, safe='')}")["ended"]
        echo(f"{ended} logins of {printable(name)} are over.")
        return
    token = credentials.token(url)
    if token is None:
        echo(f"There is no login at {url}.", err=True)
        return
    try:
        GatewayClient(url, token).delete("/logins/mine" + ("?everywhere=true" if everywhere else ""))
    except (Forbidden, Unauthenticated):
        pass  # it is over there already
    except NoahError as e:
        echo(f"The gateway did not end the login: {e.sentence}", err=True)
    credentials.forget(url)
    echo(f"You are logged out of {url}.")


def _provider(gateway: GatewayClient, wanted: str | None) -> str:
    names = _names(gateway, "oidc")
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    if not names:
        raise BadInput("This gateway has no provider to log in at: get a token, and run `noah login --token`.")
    raise BadInput(f"Say at which provider, with --provider: {', '.join(names)}.")


def _known_anyway(gateway: GatewayClient) -> str | None:
    """Return who one is without a login: a gateway on loopback knows the user of its machine."""
    try:
        return str(gateway.get("/me")["principal"]["name"])
    except Unauthenticated:
        return None


def _names(gateway: GatewayClient, kind: str) -> list[str]:
    return [str(one.get("name")) for one in gateway.get("/logins/providers")["items"] if one.get("kind") == kind]


def _by_kubeconfig(gateway: GatewayClient, context: str, cluster: str | None) -> str:
    """Log in with what kubectl would send; the gateway asks its own cluster for whose that is."""
    names = _names(gateway, "kubernetes")
    if cluster is None and len(names) != 1:
        known = ", ".join(names) or "none does"
        raise BadInput(f"Say which of the gateway's clusters knows you, with --cluster: {known}.")
    body = {"cluster": cluster or names[0], "token": asyncio.run(_token_of(context))}
    _, answer = gateway.post("/logins", body)
    return str(answer["token"])


async def _token_of(context: str) -> str:
    from noah.kube.access import Way
    from noah.settings import ClusterSettings

    kubeconfig = Path(os.environ.get("KUBECONFIG") or "~/.kube/config")
    access = await Way(ClusterSettings(name="kubeconfig", kubeconfig=kubeconfig, context=context or None)).access()
    sent = {name.lower(): value for name, value in access.headers}.get("authorization", "")
    scheme, _, token = sent.partition(" ")
    if scheme.lower() != "bearer":
        raise BadInput("This context of the kubeconfig has no token, but a client certificate or a password.")
    return token


def _on_device(gateway: GatewayClient, provider: str) -> str:
    _, begun = gateway.post("/logins/devices", {"provider": provider})
    echo(f"Open {begun['verification_uri']} on any device and enter the code {begun['user_code']}.")
    if begun.get("verification_uri_complete"):
        echo(f"Or open {begun['verification_uri_complete']}")
    until = time.monotonic() + begun["expires_in_seconds"]
    while time.monotonic() < until:
        time.sleep(begun["interval_seconds"])
        status, answer = gateway.post("/logins", {"device": begun["device"]})
        if status == 201:
            return str(answer["token"])
    raise TimeIsUp("Nobody has confirmed the login in time: run `noah login --device` again.")


def _by_browser(url: str, gateway: GatewayClient, provider: str, *, opens: bool) -> str:
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    with _Listener(state) as listener:
        asked = {"cli_port": listener.port, "cli_challenge": challenge_of(verifier), "cli_state": state}
        address = f"{url}/login/with/{provider}?{urlencode(asked)}"
        if not (opens and webbrowser.open(address)):
            echo(f"Open this in a browser of this machine:\n  {address}", err=True)
        code = listener.code()
    _, answer = gateway.post("/logins", {"code": code, "verifier": verifier})
    return str(answer["token"])


class _Listener:
    """Waits on loopback for the browser to bring the code."""

    def __init__(self, state: str) -> None:
        found = self._found = []  # type: list[str]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                ours = secrets.compare_digest(query.get("state", [""])[0], state)
                if ours and query.get("code"):
                    found.append(query["code"][0])
                self.send_response(200 if ours else 400)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Security-Policy", "default-src 'none'")
                self.end_headers()
                self.wfile.write(DONE if ours else b"This is not the login that was begun here.\n")

            def log_message(self, format: str, *args: Any) -> None:
                """Write nothing: the code is in the address."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> "_Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def code(self) -> str:
        until = time.monotonic() + BACK_WITHIN_S
        while not self._found:
            self._server.timeout = until - time.monotonic()
            if self._server.timeout <= 0:
                raise TimeIsUp("The browser did not come back in time: run `noah login` again.")
            self._server.handle_request()
        return self._found[0]
