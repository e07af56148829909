// The server API as a back end uses it: over HTTP, and as NATS requests in a few lines of protocol.

import { randomUUID } from "node:crypto";
import { connect } from "node:net";

export const ALL = "all-key-0123456789abcdef";

/** Calls `POST /v1/apps/{app}/{verb}` of a node; resolves with `{ status, body, headers }`. */
export async function call(node, app, verb, body, { key = ALL, idempotencyKey, traceparent, method = "POST", query = "", raw } = {}) {
  const response = await fetch(`http://${node.api}/v1/apps/${app}/${verb}${query}`, {
    method,
    headers: {
      ...(key && { authorization: `Bearer ${key}` }),
      ...(idempotencyKey && { "idempotency-key": idempotencyKey }),
      ...(traceparent && { traceparent }),
    },
    body: method === "GET" ? undefined : raw ?? JSON.stringify(body),
  });
  return { status: response.status, body: await response.json(), headers: response.headers };
}

export const ask = (node, app, verb, query = "", options = {}) => call(node, app, verb, undefined, { method: "GET", query, ...options });

/** Notes where each node's API listens. */
export async function withApi(cluster) {
  for (const node of cluster.nodes) [, node.api] = await node.process.line(/^api (\S+)$/);
  return cluster;
}

/** One NATS request; resolves with the parsed answer. Its reply subject is its own: requests at the same time share the server. */
export function natsRequest(server, subject, body, ms = 30_000) {
  const { hostname, port } = new URL(server);
  const reply = `_reply.${randomUUID()}`;
  const payload = Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let got = Buffer.alloc(0);
    const fail = (error) => { socket.destroy(); reject(error); };
    const timer = setTimeout(() => fail(new Error(`no answer on ${subject}`)), ms);
    socket.on("error", fail);
    socket.on("connect", () => {
      socket.write('CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n');
      socket.write(`SUB ${reply} 1\r\n`);
      socket.write(`PUB ${subject} ${reply} ${payload.length}\r\n`);
      socket.write(Buffer.concat([payload, Buffer.from("\r\n")]));
    });
    socket.on("data", (data) => {
      got = Buffer.concat([got, data]);
      const head = /(?:^|\r\n)(MSG|HMSG) _reply\.\S+ 1 (?:(\d+) )?(\d+)\r\n/.exec(got.toString("latin1"));
      if (!head) return;
      const start = head.index + head[0].length;
      if (got.length < start + Number(head[3])) return;
      clearTimeout(timer);
      socket.destroy();
      if (head[1] === "HMSG") return reject(new Error("no responders"));
      resolve(JSON.parse(got.subarray(start, start + Number(head[3])).toString()));
    });
  });
}
