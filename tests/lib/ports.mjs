// Free loopback ports, for servers that must know theirs before they start.

import { createServer } from "node:net";

/** Below those that the system gives to outgoing connections: one of them could take the port before its server does. */
const [FIRST, LAST] = [10_000, 32_000];

/** Ports that this process has given out: two servers of a test ask before either listens. */
const given = new Set();

export async function freePort() {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
}

function isFree(port) {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
