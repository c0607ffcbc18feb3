// The provider of the tests: the real oidc-provider, with people whose groups a test changes, keys that it rotates, and
// tokens that it has signed as it likes. Its only argument is JSON; it prints its address once it listens.

import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { SignJWT, importJWK } from "jose";
import Provider from "oidc-provider";

const { port, clients, idTokenSeconds = 3600 } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const people = new Map(); // by their subject: their claims
const given = new Map(); // refresh tokens: whose they are
let generation = 0;
let key, provider, handle;

function rotate() {
  generation += 1;
  const made = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
  key = { ...made, kid: `key-${generation}`, use: "sig", alg: "RS256" };
  provider = new Provider(issuer, {
    clients,
    jwks: { keys: [key] },
    cookies: { keys: ["a test's"] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "offline_access"],
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...people.get(sub) }) }),
    features: { deviceFlow: { enabled: true }, revocation: { enabled: true }, rpInitiatedLogout: { enabled: true }, jwtUserinfo: { enabled: true }, encryption: { enabled: true } },
    ttl: { IdToken: idTokenSeconds, AccessToken: 600, AuthorizationCode: 60, RefreshToken: 86400, Session: 3600, Grant: 86400, Interaction: 600, DeviceCode: 600 },
    rotateRefreshToken: true,
    renderError: (ctx, out) => {
      ctx.type = "html";
      ctx.body = `<pre>${JSON.stringify(out)}</pre>`;
    },
  });
  provider.on("refresh_token.saved", (token) => given.set(token.jti, token.accountId));
  handle = provider.callback();
}

const controls = {
  people: (given) => Object.entries(given).forEach(([sub, claims]) => people.set(sub, claims)),
  rotate,
  sign: async ({ claims, header }) =>
    new SignJWT(claims).setProtectedHeader({ alg: "RS256", kid: key.kid, ...header }).sign(await importJWK(key, "RS256")),
  // All that a person has allowed anybody ends.
  revoke: async ({ sub }) => {
    for (const [token, whose] of given) if (whose === sub) await (await provider.RefreshToken.find(token))?.destroy();
  },
  count: async ({ sub }) => {
    let count = 0;
    for (const [token, whose] of given) if (whose === sub && (await provider.RefreshToken.find(token))) count += 1;
    return count;
  },
};

rotate();
createServer(async (request, response) => {
  const control = request.url.match(/^\/control\/(\w+)$/);
  if (!control) return handle(request, response);
  let body = "";
  for await (const piece of request) body += piece;
  try {
    const answer = await controls[control[1]](JSON.parse(body || "{}"));
    response.end(JSON.stringify(answer ?? null));
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error.stack));
  }
}).listen(port, "127.0.0.1", () => console.log(issuer));
