// The cutover of docs/migration.md: a published Socket.IO server with clients on it, two gateways beside it, and the page's own rule in
// haproxy between them.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join as joined } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { Server } from "socket.io";
import { haproxyInstalled } from "../lib/balancers.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { steps } from "../lib/pages.mjs";
import { freePort } from "../lib/ports.mjs";
import { Process } from "../lib/processes.mjs";
import { CONFIG, join, POLLING, send, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const PAGE = fileURLToPath(new URL("../../docs/migration.md", import.meta.url));

describe("a cutover by session ids", { skip: !haproxyInstalled() && "haproxy is not installed" }, () => {
  const users = new Users();
  let old;
  let cluster;
  let haproxy;
  let dir;
  let url;
  before(async () => {
    old = await startOld();
    cluster = await Cluster.start({ config: CONFIG, nodes: 2 });
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const rule = steps(PAGE).find(({ value }) => value === "tests/e2e/migration.test.mjs").text;
    const addresses = { 8000: port, 3000: old.port, 3001: old.port, 8080: cluster.nodes[0].addr.split(":")[1], 8083: cluster.nodes[1].addr.split(":")[1] };
    dir = mkdtempSync(joined(tmpdir(), "trunkline-haproxy-"));
    const file = joined(dir, "haproxy.cfg");
    writeFileSync(file, `${rule.replace(/127\.0\.0\.1:(\d+)/g, (_, known) => `127.0.0.1:${addresses[known]}`)}\n`);
    haproxy = new Process("haproxy", "haproxy", ["-db", "-f", file]);
    await until(async () => (await fetch(`${url}/`).catch(() => null))?.status === 404, 20_000);
  });
  after(async () => {
    users.leave();
    await haproxy?.stop("SIGKILL");
    await cluster?.stop();
    await old?.stop();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });

  it("keeps old sessions where they are, and begins new ones at Trunkline; when the old server stops all are there", async () => {
    // These were connected before the rule was loaded.
    const before = await Promise.all(["ann", "ben"].map((name, i) => users.enter(old.url, name, [POLLING, WEBSOCKET][i])));
    // An open session that polls reaches the old server through the rule; a new one does not.
    const { sid } = JSON.parse((await (await fetch(`${old.url}/socket.io/?EIO=4&transport=polling`)).text()).slice(1));
    const posted = await fetch(`${url}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body: "40" });
    assert.deepEqual([posted.status, await posted.text()], [200, "ok"]);
    const fresh = await users.enter(url, "cleo", UPGRADE);
    await join(fresh, "topic:news");
    assert.ok(before.every((socket) => socket.connected && socket.welcome.at === "the old server"));
    // The old clients know the balancer's address only; they come back through it.
    for (const socket of before) socket.io.uri = url;
    const back = before.map((socket) => heard(socket, "connected", 20_000));
    await old.stop();
    for (const [welcome] of await Promise.all(back)) assert.equal(welcome.at, undefined);
    await Promise.all(before.map((socket) => join(socket, "topic:news")));
    const news = before.map((socket) => heard(socket, "message:new", 20_000));
    await send(fresh, "hello", { roomId: "topic:news" });
    for (const [{ message }] of await Promise.all(news)) assert.equal(message, "hello");
  });
});

/** What the application ran before: Socket.IO's own server. */
async function startOld() {
  const http = createServer((_, response) => { response.writeHead(404).end(); });
  const io = new Server(http);
  io.on("connection", (socket) => socket.emit("connected", { at: "the old server" }));
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  const { port } = http.address();
  const stop = () => new Promise((resolve) => { io.close(() => resolve()); });
  return { port, url: `http://127.0.0.1:${port}`, stop };
}
