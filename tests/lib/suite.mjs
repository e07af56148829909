// One test file, several topologies: the same behaviour on one node and behind balancers that choose anew for every request.

import { readFileSync } from "node:fs";
import { after, afterEach, before, describe } from "node:test";
import { haproxyInstalled } from "./balancers.mjs";
import { Cluster } from "./cluster.mjs";
import { Process } from "./processes.mjs";

const REFERENCE = new URL("../conformance/reference/server.mjs", import.meta.url).pathname;

/** `TRUNKLINE_TEST_TARGET=reference` runs the conformance tests against the published server instead of Trunkline. */
export const againstReference = process.env.TRUNKLINE_TEST_TARGET === "reference";

/** Ways to start a server for a profile, by name. */
function topologies() {
  if (againstReference) return { "reference server": startReference };
  const config = (profile, patient) => (patient ? patiently(configOf(profile)) : configOf(profile));
  const behind = (balancer) => (...row) => Cluster.start({ config: config(...row), nodes: 3, balancer });
  return {
    "one node": (...row) => Cluster.start({ config: config(...row) }),
    "three nodes, testkit balancer": behind("testkit"),
    ...(haproxyInstalled() && { "three nodes, haproxy": behind("haproxy") }),
  };
}

/** The configuration of a row of the conformance table. */
export function configOf(profile) {
  return readFileSync(new URL(`../conformance/${profile}.toml`, import.meta.url), "utf8");
}

/** The public suites want clients to answer pings within a fraction of a second. What a busy machine does to that is not what most tests ask. */
const patiently = (config) => config.replace(/^ping_timeout_ms = .*$/m, "ping_timeout_ms = 20_000");

/**
 * Defines the tests of `define(url)` once per topology; `url()` is where the server of the running topology listens. A `patient` server
 * pings as the profile says, and waits long for the answer.
 */
export function onEveryTopology(profile, define, { patient = false } = {}) {
  for (const [name, start] of Object.entries(topologies())) {
    describe(`${profile}${patient ? ", patient" : ""}: ${name}`, () => {
      let server;
      before(async () => { server = await start(profile, patient); });
      after(() => server?.stop());
      afterEach((test) => dumpIfFailed(test, server));
      define(() => server.url);
    });
  }
}

/** Prints the logs of the processes once a test has failed. */
export function dumpIfFailed(test, server) {
  if (test.error && server?.log) console.error(server.log());
}

async function startReference(profile, patient) {
  const child = new Process("reference", process.execPath, [REFERENCE, profile, ...(patient ? ["patient"] : [])]);
  const [, url] = await child.line(/^listening (\S+)$/);
  return { url, stop: () => child.stop("SIGKILL"), log: () => child.log() };
}
