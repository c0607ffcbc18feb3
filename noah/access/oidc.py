"""One OpenID Connect provider: it says who somebody is, in tokens that its keys have signed.

Nothing of a token is read before its signature is checked with a key of the provider's, and an algorithm is never the
token's own choice alone. What the provider publishes of itself is asked for when it is needed and remembered; unknown
keys are looked for again, but not more often than strangers could make us ask.
"""

import asyncio
import base64
import json
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import aiohttp

from noah.access.followed_file import FollowedFile, secret_of
from noah.core.pkce import challenge_of
from noah.core.session.principal import Principal, PrincipalKind, principal_from_outside
from noah.errors import BadSettings, Forbidden, NoahError, Unauthenticated, Unavailable
from noah.settings import OidcSettings

if TYPE_CHECKING:
    from joserfc.jwk import KeySet
    from joserfc.jwt import Token

log = logging.getLogger(__name__)

ANSWERS_WITHIN_S = 10.0  # a person waits for it
LONGEST_ANSWER_BYTES = 1 << 20
METADATA_KEPT_S = 3600.0
KEYS_KEPT_S = 600.0  # a key that the provider withdraws is believed so long at most
KEYS_ASKED_EVERY_S = 2.0  # an unknown key asks for the keys again, but strangers may invent such
SKEW_S = 60  # between the clocks of the provider and this machine
OLDEST_ID_TOKEN_S = 600  # of one that was just asked for; it may have waited for a person
USUAL_SCOPES = ("profile", "email", "groups", "offline_access")
ACCESS_TOKEN = "at+jwt"  # noqa: S105 - the header `typ` of RFC 9068, section 2.1


class LoginOver(NoahError):
    """The provider says that this login is over."""

    http_status = 401


@dataclass(frozen=True, slots=True)
class Granted:
    """All that the provider has given for one login."""

    principal: Principal
    refresh_token: str | None
    id_token: str  # also names the login when it is ended at the provider
    checked_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """A login that a person confirms on another device (RFC 8628)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in_s: int
    interval_s: int


class OidcProvider:
    def __init__(self, settings: OidcSettings, http: aiohttp.ClientSession, *, clock: Callable[[], datetime]) -> None:
        """Raises BadSettings if the secret cannot be read."""
        self.settings = settings
        self.name = settings.name
        self._http = http
        self._clock = clock
        file, what = settings.client_secret_file, f"client_secret_file of the provider {settings.name!r}"
        self._secret = None if file is None else FollowedFile(file, what, _secret_in)
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._keys_lock = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: OidcSettings, *, clock: Callable[[], datetime]) -> AsyncIterator[Self]:
        import noah.access.signatures  # noqa: F401 - 8 MiB and 0.1 s, now rather than at the first login

        try:
            tls = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as e:
            raise BadSettings(f"ca_file of the provider {settings.name!r} cannot be used: {e}.") from None
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=20), timeout=aiohttp.ClientTimeout(total=ANSWERS_WITHIN_S)
        ) as http:
            yield cls(settings, http, clock=clock)

    # -- logging in

    async def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Return where the browser goes; it comes back to *redirect_uri* with a code."""
        scope = await self._scope()
        more = self.settings.authorization_parameters
        if more is None:
            # Without it no refresh token is given (OpenID Connect Core, section 11).
            more = {"prompt": "consent"} if "offline_access" in scope.split() else {}
        asked = {
            **more,
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = str((await self._described())["authorization_endpoint"])
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(asked)

    async def redeem(self, code: str, *, redirect_uri: str, nonce: str, verifier: str, issuer: str | None) -> Granted:
        """Return who has logged in. *issuer*: as the answer names it (RFC 9207). Raises Unauthenticated."""
        if issuer is not None and issuer != self.settings.issuer:
            raise Unauthenticated(f"The answer is not of the provider {self.name}: log in again.")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        status, answer = await self._post("token_endpoint", form)
        if status != 200:
            raise Unauthenticated(f"The provider {self.name} does not take the login: {_refusal(answer, status)}.")
        return await self._granted(answer, nonce=nonce)

    async def refresh(self, login: Granted) -> Granted:
        """Return what the provider says of the person now. Raises LoginOver, Unavailable."""
        if login.refresh_token is None:
            return login
        form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token}
        status, answer = await self._post("token_endpoint", form)
        if status == 200:
            granted = await self._granted(answer, nonce=None, earlier=login)
            if granted.principal != login.principal:
                raise LoginOver(f"The provider {self.name} now names somebody else: log in again.")
            return granted
        if answer.get("error") in ("invalid_grant", "unauthorized_client"):
            raise LoginOver(f"The provider {self.name} has ended your login: log in again.")
        raise Unavailable(f"The provider {self.name} does not renew logins now: {_refusal(answer, status)}.")

    async def begin_on_device(self) -> DeviceLogin:
        """Begin a login without a browser here. Raises Unavailable if the provider has no such."""
        described = await self._described()
        if "device_authorization_endpoint" not in described:
            raise Forbidden(f"The provider {self.name} has no login for devices.")
        status, answer = await self._post("device_authorization_endpoint", {"scope": await self._scope()})
        try:
            if status != 200:
                raise ValueError
            return DeviceLogin(
                device_code=answer["device_code"],
                user_code=answer["user_code"],
                verification_uri=answer["verification_uri"],
                verification_uri_complete=answer.get("verification_uri_complete"),
                expires_in_s=int(answer["expires_in"]),
                interval_s=max(1, int(answer.get("interval", 5))),
            )
        except (KeyError, TypeError, ValueError):
            raise Unavailable(f"The provider {self.name} refuses: {_refusal(answer, status)}.") from None

    async def poll_device(self, login: DeviceLogin) -> Granted | None:
        """Return who has logged in; None as long as nobody has. Raises Unauthenticated when it has failed."""
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": login.device_code}
        status, answer = await self._post("token_endpoint", form)
        if status == 200:
            return await self._granted(answer, nonce=None)
        if answer.get("error") in ("authorization_pending", "slow_down"):
            return None
        raise Unauthenticated(f"The login was not confirmed: {_refusal(answer, status)}.")

    async def principal_of(self, token: str, *, audiences: Sequence[str] = ()) -> Principal:
        """Return whom a signed token names that a client has sent. Raises Unauthenticated.

        *audiences*: for which the token may be, beside those of the settings.
        """
        others = (*self.settings.audiences, *audiences)
        header, claims = await self._verified(token, (self.settings.client_id, *others))
        if header.get("typ", "JWT").lower() == ACCESS_TOKEN and not _for(claims, others):
            raise Unauthenticated("This access token is for somebody else: name its audience in the settings.")
        return self._principal(claims, proof=f"a token of {self.name}")

    # -- logging out

    async def end(self, login: Granted) -> None:
        """Revoke what the provider has given, if it can (RFC 7009). What fails is logged: the login is over here."""
        if login.refresh_token is None or "revocation_endpoint" not in await self._described():
            return
        form = {"token": login.refresh_token, "token_type_hint": "refresh_token"}
        status, answer = await self._post("revocation_endpoint", form)
        if status != 200:
            log.warning("provider %s did not revoke a login: %s", self.name, _refusal(answer, status))

    async def logout_url(self, id_token: str, *, back_to: str) -> str | None:
        """Return where the browser logs out of the provider too; None if there is no such place."""
        endpoint = (await self._described()).get("end_session_endpoint")
        if endpoint is None:
            return None
        asked = {
            "id_token_hint": id_token,
            "client_id": self.settings.client_id,
            "post_logout_redirect_uri": back_to,
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    # -- inside

    async def _scope(self) -> str:
        scopes = self.settings.scopes
        if scopes is None:
            offered = _strings((await self._described()).get("scopes_supported"))
            scopes = tuple(scope for scope in USUAL_SCOPES if scope in offered)
        return " ".join(dict.fromkeys(("openid", *scopes)))

    async def _granted(
        self, answer: Mapping[str, Any], *, nonce: str | None, earlier: Granted | None = None
    ) -> Granted:
        id_token = answer.get("id_token", earlier and earlier.id_token)  # a refresh may bring no new one
        if not isinstance(id_token, str):
            raise Unauthenticated(f"The provider {self.name} gave no ID token.")
        if earlier is not None and id_token == earlier.id_token:
            claims: Mapping[str, Any] = {"sub": _unverified(id_token)["sub"]}  # verified when it was new
        else:
            _, claims = await self._verified(id_token, [self.settings.client_id])
            age = self._clock().timestamp() - claims["iat"]
            if nonce is not None and not secrets.compare_digest(str(claims.get("nonce", "")), nonce):
                raise Unauthenticated("The login does not belong to this browser: log in again.")
            if earlier is None and age > OLDEST_ID_TOKEN_S:
                raise Unauthenticated("The login is too old: log in again.")
        claims = {**claims, **await self._userinfo(answer.get("access_token"), claims["sub"])}
        refresh_token = answer.get("refresh_token", earlier and earlier.refresh_token)
        return Granted(
            principal=self._principal(claims, proof=f"a login at {self.name}"),
            refresh_token=refresh_token if isinstance(refresh_token, str) else None,
            id_token=id_token,
            checked_at=self._clock().timestamp(),
        )

    async def _userinfo(self, access_token: object, subject: str) -> Mapping[str, Any]:
        """Return what the provider's userinfo says. It is the place for groups that do not fit into a token."""
        endpoint = (await self._described()).get("userinfo_endpoint")
        if endpoint is None or not isinstance(access_token, str):
            return {}
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json, application/jwt"}
        status, kind, body = await self._fetch("GET", endpoint, headers=headers)
        # A provider signs it for clients that are registered so (OpenID Connect Core, section 5.3.2).
        is_signed = status == 200 and kind == "application/jwt"
        answer = await self._signed_userinfo(body.decode(errors="replace").strip()) if is_signed else _parsed(body)
        # OpenID Connect Core, section 5.3.2: another subject's answer may not be used.
        if status != 200 or answer.get("sub") != subject:
            raise Unavailable(f"The provider {self.name} does not say more of you: {_refusal(answer, status)}.")
        return {key: value for key, value in answer.items() if key not in ("iss", "aud", "sub")}

    def _principal(self, claims: Mapping[str, Any], *, proof: str) -> Principal:
        settings = self.settings
        subject = claims.get(settings.subject_claim)
        if not isinstance(subject, str):
            raise Forbidden(f"The provider {self.name} gives no {settings.subject_claim!r} for you.")
        if settings.subject_claim == "email" and claims.get("email_verified") is not True:
            raise Forbidden(f"The provider {self.name} has not verified your address {subject[:80]!r}.")
        names = (claims.get(claim) for claim in (settings.name_claim, "preferred_username", "name", "email"))
        return principal_from_outside(
            PrincipalKind.OIDC,
            issuer=settings.issuer,
            subject=subject,
            name=next((name for name in names if isinstance(name, str) and name.strip()), None),
            groups=_strings(_claim(claims, settings.groups_claim)),
            proof=proof,
        )

    async def _signed_userinfo(self, token: str) -> Mapping[str, Any]:
        """Return the claims of userinfo that is a JWT. Raises Unavailable for one that is encrypted, or not for us."""
        if token.count(".") == 4:
            raise Unavailable(f"The provider {self.name} encrypts its userinfo: let it sign it only, or send JSON.")
        claims = (await self._decoded(token)).claims
        if claims.get("iss") != self.settings.issuer or not _for(claims, [self.settings.client_id]):
            raise Unavailable(f"The provider {self.name} signs its userinfo for somebody else.")
        return claims

    async def _decoded(self, token: str) -> "Token":
        """Return a token of the provider's once its signature is checked. Raises Unauthenticated."""
        from noah.access.signatures import decoded  # loaded by open()

        try:
            return decoded(token, await self._key_set(token))
        except ValueError:
            raise Unauthenticated(f"This is not a token that the provider {self.name} has signed.") from None

    async def _verified(self, token: str, audiences: Sequence[str]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the header and the claims of a token of the provider's that is valid now. Raises Unauthenticated."""
        decoded = await self._decoded(token)
        now = self._clock().timestamp()
        header, claims = decoded.header, decoded.claims
        if claims.get("iss") != self.settings.issuer:
            raise Unauthenticated("The token names another provider.")
        if header.get("typ", "JWT").lower() not in ("jwt", ACCESS_TOKEN) or "events" in claims:
            raise Unauthenticated("This token is not one of a login.")
        if not _for(claims, audiences):
            raise Unauthenticated("The token is for somebody else: its audience is not this gateway.")
        times = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
        expires, issued, begins = (float(one) if _is_time(one) else None for one in times)
        if expires is None or issued is None or begins is None:
            raise Unauthenticated("The token does not say from when until when it is valid.")
        if expires + SKEW_S <= now:
            raise Unauthenticated("The token has expired: log in again.")
        if max(issued, begins) - SKEW_S > now:
            raise Unauthenticated("The token is not valid yet: is this machine's clock right?")
        if not isinstance(claims.get("sub"), str):
            raise Unauthenticated("The token names nobody.")
        return header, claims

    async def _key_set(self, token: str) -> "KeySet":
        """Return the provider's keys, asked for again if the token's is not among them."""
        from noah.access.signatures import key_set  # loaded by open()

        kid = _header_of(token).get("kid")
        async with self._keys_lock:
            now = time.monotonic()
            if self._keys is not None:
                asked_at, keys = self._keys
                is_known = kid is None or any(key.kid == kid for key in keys.keys)
                if now - asked_at < (KEYS_KEPT_S if is_known else KEYS_ASKED_EVERY_S):
                    return keys
            status, answer = await self._ask("GET", str((await self._described())["jwks_uri"]))
            listed = answer.get("keys")
            if status != 200 or not isinstance(listed, list):
                raise Unavailable(f"The provider {self.name} does not show its keys: {_refusal(answer, status)}.")
            found = key_set(listed)
            self._keys = now, found
            return found

    async def _described(self) -> Mapping[str, Any]:
        """Return what the provider says of itself (OpenID Connect Discovery, section 4)."""
        now = time.monotonic()
        if self._metadata is not None and now - self._metadata[0] < METADATA_KEPT_S:
            return self._metadata[1]
        issuer = self.settings.issuer
        status, answer = await self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if status != 200 or answer.get("issuer") != issuer:
            raise Unavailable(
                f"The provider {self.name} cannot be used: at {issuer} is "
                + (f"the issuer {str(answer.get('issuer'))[:80]!r}." if status == 200 else f"HTTP {status}.")
            )
        needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if missing := [name for name in needed if not isinstance(answer.get(name), str)]:
            raise Unavailable(f"The provider {self.name} does not say its {' and '.join(missing)}.")
        self._metadata = now, answer
        return answer

    async def _post(self, endpoint: str, form: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        described, client_id = await self._described(), self.settings.client_id
        headers, sent = {"Accept": "application/json"}, dict(form)
        methods = described.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        secret = None if self._secret is None else self._secret.current()
        if secret is None:
            sent["client_id"] = client_id
        elif "client_secret_basic" in methods:
            headers["Authorization"] = aiohttp.encode_basic_auth(_quoted(client_id), _quoted(secret))
        else:
            sent |= {"client_id": client_id, "client_secret": secret}
        return await self._ask("POST", str(described[endpoint]), data=sent, headers=headers)

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, Mapping[str, Any]]:
        status, _, body = await self._fetch(method, url, **more)
        return status, _parsed(body)

    async def _fetch(self, method: str, url: str, **more: Any) -> tuple[int, str, bytes]:
        """Return the answer's status, content type and body. Raises Unavailable."""
        if not url.startswith("https://") and not self.settings.issuer.startswith("http://"):
            raise Unavailable(f"The provider {self.name} names an address without TLS: {url[:80]}.")
        try:
            async with self._http.request(method, url, allow_redirects=False, **more) as answer:
                body = b""
                async for piece in answer.content.iter_chunked(1 << 16):
                    body += piece
                    if len(body) > LONGEST_ANSWER_BYTES:
                        raise Unavailable(f"The provider {self.name} answers with more than a MiB.")
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            why = str(e) or "no answer in time"
            raise Unavailable(f"The provider {self.name} does not answer: {why[:200]}.") from None
        return answer.status, answer.content_type, body


def issuer_of(token: str) -> str | None:
    """Return the issuer that a signed token claims to be of, to choose who checks it; None if it is not a JWT."""
    try:
        issuer = _unverified(token).get("iss")
    except ValueError:
        return None
    return issuer if isinstance(issuer, str) else None


def _parsed(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object that an answer is; an empty one for anything else."""
    try:
        parsed = json.loads(body) if body else {}
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _header_of(token: str) -> Mapping[str, Any]:
    return _part(token, 0)


def _unverified(token: str) -> Mapping[str, Any]:
    return _part(token, 1)


def _part(token: str, number: int) -> Mapping[str, Any]:
    """Return the JSON of one part of a JWT. Raises ValueError."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("not a signed token")
    found = json.loads(base64.urlsafe_b64decode(parts[number] + "=" * (-len(parts[number]) % 4)))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _for(claims: Mapping[str, Any], audiences: Sequence[str]) -> bool:
    return not set(audiences).isdisjoint(_strings(claims.get("aud")))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """Return a claim by its name, or by its path: "realm_access.roles"."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _refusal(answer: Mapping[str, Any], status: int) -> str:
    said = answer.get("error_description") or answer.get("error")
    shown = "".join(c if c.isprintable() else "?" for c in str(said))[:200].rstrip(".")
    return shown if said else f"HTTP {status}"


def _quoted(text: str) -> str:
    """Write it as RFC 6749, section 2.3.1, wants client credentials."""
    return urlencode({"": text})[1:]


def _secret_in(content: bytes) -> str:
    return secret_of(content, shortest=1).decode()
