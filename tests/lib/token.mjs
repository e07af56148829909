// Tokens as a back end would sign them.

import { createHmac } from "node:crypto";

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A JWT over `claims`; `alg` HS256, HS384, HS512 or none. */
export function sign(claims, secret, { alg = "HS256", ttl_s = 3600 } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const body = `${encode({ alg, typ: "JWT" })}.${encode({ iat: now, exp: now + ttl_s, ...claims })}`;
  const signature = alg === "none" ? "" : createHmac(`sha${alg.slice(2)}`, secret).update(body).digest("base64url");
  return `${body}.${signature}`;
}
