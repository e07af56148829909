// Serves a row of the conformance table where the public suites look for it, until stdin closes or a signal comes:
// `node serve.mjs <engineio|socketio|client|engine-client> [nodes] [testkit|haproxy]`. More than one node is served behind the balancer.

import { Cluster } from "../lib/cluster.mjs";
import { configOf } from "../lib/suite.mjs";

const [profile, nodes = "1", balancer = "testkit"] = process.argv.slice(2);
const config = configOf(profile);
const listen = JSON.parse(/^listen = (.*)$/m.exec(config)[1]);
const cluster = await Cluster.start({ config, nodes: Number(nodes), balancer: Number(nodes) > 1 ? balancer : "none", listen });
console.log(`serving ${profile} on ${listen.join(" and ")}`);

async function stop() {
  await cluster.stop();
  process.exit(0);
}
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, stop);
process.stdin.on("end", stop).resume();
