// Who tells the gateways about keys, users and rights: a server of the test that says what the test wants.

import { generateKeyPairSync, sign as signBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const TEMPLATE = readFileSync(new URL("../e2e/tokens.toml", import.meta.url), "utf8");

/** The configuration with this test's servers in it. */
export const configFor = (authority) =>
  TEMPLATE.replaceAll("JWKS_URL", `${authority.url}/keys`).replaceAll("HOOK_URL", `${authority.url}/hook`);

/** Serves a set of keys at `/keys` and a hook at `/hook`. */
export class Authority {
  keys = [];
  /** `(question) => [status, answer]`; the default grants nothing. */
  hook = () => [200, { allow: false }];
  keysStatus = 200;
  asked = [];

  static async start() {
    const authority = new Authority();
    authority.server = createServer(async (request, response) => {
      let body = "";
      for await (const part of request) body += part;
      const [status, answer] = authority.#answer(request, body);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
    await new Promise((resolve) => { authority.server.listen(0, "127.0.0.1", resolve); });
    authority.url = `http://127.0.0.1:${authority.server.address().port}`;
    return authority;
  }

  #answer(request, body) {
    if (request.url === "/keys") return [this.keysStatus, { keys: this.keys.map((key) => key.jwk) }];
    const question = JSON.parse(body);
    this.asked.push({ ...question, authorization: request.headers.authorization });
    return this.hook(question);
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** A key pair of ES256 under this name. */
export function keyPair(kid) {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), kid, use: "sig" } };
}

/** A JWT over `claims`, signed by a key pair. */
export function signBy(key, claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${encode({ alg: "ES256", typ: "JWT", kid: key.kid })}.${encode(claims)}`;
  const signature = signBytes("sha256", Buffer.from(body), { key: key.privateKey, dsaEncoding: "ieee-p1363" });
  return `${body}.${signature.toString("base64url")}`;
}
