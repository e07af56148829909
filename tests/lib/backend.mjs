// A back end that calls the server API over HTTP.

import assert from "node:assert/strict";

/** The only key of the tests' configurations. */
export const KEY = "test-key-of-the-back-end-0123456789abcdef";

/** Calls a verb of an application at a node; resolves with status and body. */
export async function ask(node, app, verb, body, headers = {}) {
  node.api ??= (await node.process.line(/^api (127\.0\.0\.1:\d+)$/))[1];
  const response = await fetch(`http://${node.api}/v1/apps/${app}/${verb}`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** The same, which must succeed; resolves with the body. */
export async function call(node, app, verb, body, headers) {
  const answer = await ask(node, app, verb, body, headers);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body;
}
