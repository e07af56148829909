// Applications on one address and path, told apart by the name of the host.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, it } from "node:test";
import { Cluster } from "../lib/cluster.mjs";
import { token } from "../lib/visits.mjs";

const CONFIG = `
[nats]
servers = ["nats://127.0.0.1:4222"]
[http]
listen = ["127.0.0.1:8080"]
admin = "127.0.0.1:9090"
[[app]]
name = "anyone"
dialect = "telehealth"
token = { secret = "another key" }
[[app]]
name = "named"
dialect = "telehealth"
hosts = ["Visits.example", "www.visits.example"]
token = { secret = "test-key-of-the-end-to-end-tests-0123456789" }
[[app]]
name = "food"
dialect = "diet"
hosts = ["food.example"]
path = "/api/socketio"
token = { secret = "x" }
`;

describe("applications of several host names", () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 1, coordinators: 0 }); });
  after(() => cluster?.stop());

  const ask = (host, path, { method = "GET", body } = {}) => new Promise((resolve, reject) => {
    const asked = request(`${cluster.nodes[0].url}${path}`, { method, headers: { host } }, (response) => {
      let text = "";
      response.on("data", (data) => { text += data; });
      response.on("end", () => resolve({ status: response.statusCode, text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });

  /** What a client with a token of `named` is told. */
  const entering = async (host) => {
    const path = "/socket.io/?EIO=4&transport=polling";
    const { sid } = JSON.parse((await ask(host, path)).text.slice(1));
    await ask(host, `${path}&sid=${sid}`, { method: "POST", body: `40${JSON.stringify({ token: token("ann") })}` });
    return (await ask(host, `${path}&sid=${sid}`)).text;
  };

  it("goes to the one that answers to the name, else to the one that takes any", async () => {
    for (const host of ["visits.example", "VISITS.EXAMPLE:8080", "www.visits.example"]) {
      assert.match(await entering(host), /^40\{"sid"/, host);
    }
    for (const host of ["other.example", "127.0.0.1", "example"]) assert.match(await entering(host), /^44\{"message"/, host);
    assert.equal((await ask("food.example", "/api/socket")).status, 200);
    assert.equal((await ask("other.example", "/api/socket")).status, 404);
    // A session of one application is none of another's.
    const { sid } = JSON.parse((await ask("visits.example", "/socket.io/?EIO=4&transport=polling")).text.slice(1));
    assert.equal((await ask("other.example", `/socket.io/?EIO=4&transport=polling&sid=${sid}`)).status, 400);
  });
});
