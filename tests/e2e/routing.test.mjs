// Which application a request is for: by listener, then host name, then path (namespaces: namespaces.test.mjs). And which configurations
// leave that open.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { io } from "socket.io-client";
import { heard } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";

const TRUNKLINE = process.env.TRUNKLINE_BIN ?? new URL("../../target/debug/trunkline", import.meta.url).pathname;

/** Each application believes tokens of its own key alone: who is let in has reached it. The harness leaves `listen=` as it is. */
const app = (name, more = "") => `
[[app]]
name = "${name}"
dialect = "telehealth"
token = { secret = "key-of-${name}" }
${more}
`;

const CONFIG = `
[nats]
servers = ["nats://127.0.0.1:4222"]
[http]
listen = ["127.0.0.1:8080"]
admin = "127.0.0.1:9090"
trusted_proxies = ["127.0.0.1"]
${app("anyone", 'plain_path = "/plain"')}
${app("red", 'hosts = ["red.example"]\nplain_path = "/plain"')}
${app("blue", 'hosts = ["Blue.Example", "[::1]"]\nplain_path = "/plain"')}
${app("side", 'path = "/side/"')}
${app("left", 'hosts = ["red.example"]\nlisten=["127.0.0.2:0", "127.0.0.3:0"]')}
${app("right", 'hosts = ["right.example"]\nlisten=["127.0.0.2:0"]')}
[[app]]
name = "food"
dialect = "diet"
hosts = ["food.example"]
path = "/api/socketio"
token = { secret = "key-of-food" }
`;

describe("requests on several listeners, hosts and paths", () => {
  const open = [];
  const urls = { };
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 1, coordinators: 0 });
    urls.main = cluster.nodes[0].url;
    for (const [name, address] of [["two", "127.0.0.2"], ["three", "127.0.0.3"]]) {
      const [, addr] = await cluster.nodes[0].process.line(new RegExp(`^listening left (${address}:\\d+)$`));
      urls[name] = `http://${addr}`;
    }
  });
  after(() => cluster?.stop());
  afterEach((test) => { for (const client of open.splice(0)) client.close(); dumpIfFailed(test, cluster); });

  const ask = (url, host, path, { method = "GET", headers, localAddress, body } = {}) => new Promise((resolve, reject) => {
    const asked = request(`${url}${path}`, { method, localAddress, headers: { host, ...headers } }, (response) => {
      let text = "";
      response.on("data", (data) => { text += data; });
      response.on("end", () => resolve({ status: response.statusCode, type: response.headers["content-type"], text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });

  const tokenOf = (name) => sign({ userId: "ann", role: "patient" }, `key-of-${name}`);

  /** Whether a client with a token of `name` is let in by polling. */
  const isLetIn = async (name, url, host, { path = "/socket.io/", ...options } = {}) => {
    const base = `${path}?EIO=4&transport=polling`;
    const { sid } = JSON.parse((await ask(url, host, base, options)).text.slice(1));
    const connect = `40${JSON.stringify({ token: tokenOf(name) })}`;
    await ask(url, host, `${base}&sid=${sid}`, { ...options, method: "POST", body: connect });
    return (await ask(url, host, `${base}&sid=${sid}`, options)).text.startsWith("40");
  };

  const isNobodys = async (url, host, path, options) => {
    const answer = await ask(url, host, path, options);
    assert.equal(answer.status, 404, `${host}${path}`);
    assert.equal(answer.type, "application/json");
    assert.deepEqual(JSON.parse(answer.text), { error: "No application answers to this host and path" });
  };

  it("goes to the application that names the host, else to the one that takes any", async () => {
    const cases = [
      ["red", "red.example"], ["red", "RED.example:8443"], ["red", "red.example."], ["blue", "blue.example"], ["blue", "[::1]:80"],
      ["anyone", "unknown.example"], ["anyone", "127.0.0.1"], ["anyone", "example"], ["anyone", "red.example.org"],
    ];
    for (const [name, host] of cases) {
      assert.ok(await isLetIn(name, urls.main, host), `${name} at ${host}`);
      const other = name === "red" ? "blue" : "red";
      assert.ok(!await isLetIn(other, urls.main, host), `${other} not at ${host}`);
    }
  });

  it("knows the path with and without its slash, for a host that others name too", async () => {
    for (const path of ["/side/", "/side"]) {
      for (const host of ["red.example", "unknown.example"]) assert.ok(await isLetIn("side", urls.main, host, { path }));
    }
    assert.ok(await isLetIn("red", urls.main, "red.example", { path: "/socket.io" }));
  });

  it("tells the same host apart by listener, and one application has several", async () => {
    for (const url of [urls.two, urls.three]) {
      assert.ok(await isLetIn("left", url, "red.example"));
      assert.ok(!await isLetIn("red", url, "red.example"));
    }
    assert.ok(await isLetIn("right", urls.two, "right.example"));
    await isNobodys(urls.three, "right.example", "/socket.io/?EIO=4&transport=polling");
  });

  it("says 404 in words where no application answers", async () => {
    for (const host of ["unknown.example", "127.0.0.2", "left"]) {
      await isNobodys(urls.two, host, "/socket.io/?EIO=4&transport=polling");
      await isNobodys(urls.two, host, "/health");
    }
    await isNobodys(urls.main, "red.example", "/nowhere");
    await isNobodys(urls.main, "unknown.example", "/api/socketio?EIO=4&transport=polling");
    await isNobodys(urls.main, "red.example", "/socket.io/more");
  });

  it("believes X-Forwarded-Host of a trusted proxy only", async () => {
    const headers = { "x-forwarded-host": "red.example" };
    assert.ok(await isLetIn("red", urls.main, "inside.example", { headers }));
    assert.ok(await isLetIn("anyone", urls.main, "inside.example", { headers, localAddress: "127.0.0.9" }));
    assert.ok(await isLetIn("blue", urls.main, "blue.example", { headers, localAddress: "127.0.0.9" }));
  });

  it("finds endpoints of dialects by host", async () => {
    assert.equal((await ask(urls.main, "food.example", "/api/socket")).status, 200);
    await isNobodys(urls.main, "red.example", "/api/socket");
    assert.equal((await ask(urls.main, "red.example", "/health")).status, 200);
    assert.equal((await ask(urls.two, "right.example", "/health")).status, 200);
  });

  it("finds plain WebSockets by host", async () => {
    const dial = async (name, host) => {
      const headers = { host, authorization: `Bearer ${tokenOf(name)}` };
      const client = await Plain.open(`${urls.main}/plain`, { headers });
      open.push(client);
      return client;
    };
    for (const [name, host] of [["red", "red.example"], ["blue", "BLUE.example:1"], ["anyone", "unknown.example"]]) {
      assert.ok(await (await dial(name, host)).event("connected"), host);
    }
    assert.equal(await (await dial("red", "blue.example")).closed, 4401);
    const nobody = Plain.open(`${urls.two}/plain`, { headers: { host: "red.example" } });
    await assert.rejects(nobody, (error) => error.status === 404);
  });

  it("takes a stock client by WebSocket to its host's application", async () => {
    for (const [name, host] of [["red", "red.example"], ["anyone", "unknown.example"]]) {
      const options = { auth: { token: tokenOf(name) }, extraHeaders: { host }, transports: ["websocket"], forceNew: true };
      const socket = io(urls.main, options);
      open.push(socket);
      await heard(socket, "connected");
    }
  });
});

describe("configurations that leave open whose a request is", () => {
  const dir = mkdtempSync(join(tmpdir(), "trunkline-routing-"));
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** With nothing in the environment that would override the file. */
  const run = async (command, config) => {
    const file = join(dir, "trunkline.toml");
    writeFileSync(file, config);
    const ran = promisify(execFile)(TRUNKLINE, [command, "--config", file], { env: { PATH: process.env.PATH }, timeout: 20_000 });
    return ran.then(({ stderr }) => ({ code: 0, stderr }), ({ code, stderr }) => ({ code, stderr }));
  };

  const one = app("one", 'hosts = ["a.example"]\nplain_path = "/plain"').trimStart();
  const two = (more) => `${one}${app("two", more)}`;
  const onFreePort = (name) => app(name, 'listen=["127.0.0.1:0"]');
  // What the mistake's line begins with: the application's own where the value is a default.
  const cases = [
    ["the same host in other letters", two('hosts = ["A.Example"]'), "app[1].namespace", "no socket can tell", "[[app]]"],
    ["a namespace alone where sessions would differ", two('hosts = ["a.example"]\nnamespace = "/b"\nparser = "msgpack"'), "app[1].parser", "the same as that of app[0]", "parser = "],
    ["a namespace alone on some of the hosts", two('hosts = ["a.example", "b.example"]\nnamespace = "/b"'), "app[1].hosts", "the same as that of app[0]", "hosts = "],
    ["another's plain path", two('hosts = ["a.example"]\npath = "/x"\nplain_path = "/plain/"'), "app[1].plain_path", "no request can tell", "plain_path = "],
    ["another's path", two('hosts = ["a.example"]\npath = "/plain"'), "app[1].path", "no request can tell", "path = "],
    ["a free port shared", `${onFreePort("one")}${onFreePort("two")}`, "app[1].namespace", "no socket can tell", "[[app]]"],
    ["a host with a port", one.replace("a.example", "a.example:80"), "app[0].hosts", "no host name", "hosts = "],
    ["a path like the router's captures", app("one", 'path = "/:id"'), "app[0].path", "may begin with", "path = "],
    ["a path with braces", app("one", 'path = "/{id}"'), "app[0].path", "must not contain", "path = "],
  ];
  for (const [name, config, key, why, begins] of cases) {
    it(`refuses ${name}, with its line`, async () => {
      for (const command of ["check-config", "gateway"]) {
        const { code, stderr } = await run(command, config);
        const line = stderr.split("\n").find((text) => text.includes(` ${key}: `)) ?? "";
        assert.equal(code, 2, stderr);
        const [, number] = /trunkline\.toml:(\d+):\d+: /.exec(line) ?? assert.fail(stderr);
        const lines = config.split("\n");
        assert.equal(Number(number), lines.findLastIndex((text) => text.startsWith(begins)) + 1, line);
        assert.ok(line.includes(why), stderr);
        assert.doesNotMatch(stderr, /panicked/);
      }
    });
  }

  it("takes what listener, host and path tell apart", async () => {
    const { code, stderr } = await run("check-config", CONFIG);
    assert.equal(code, 0, stderr);
  });
});
