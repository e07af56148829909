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
  const behind = (balancer) => (profile) => Cluster.start({ config: configOf(profile), nodes: 3, balancer });
  return {
    "one node": (profile) => Cluster.start({ config: configOf(profile) }),
    "three nodes, testkit balancer": behind("testkit"),
    ...(haproxyInstalled() && { "three nodes, haproxy": behind("haproxy") }),
  };
}

/** The configuration of a row of the conformance table. */
export function configOf(profile) {
  return readFileSync(new URL(`../conformance/${profile}.toml`, import.meta.url), "utf8");
}

/** Defines the tests of `define(url)` once per topology; `url()` is where the server of the running topology listens. */
export function onEveryTopology(profile, define) {
  for (const [name, start] of Object.entries(topologies())) {
    describe(`${profile}: ${name}`, () => {
      let server;
      before(async () => { server = await start(profile); });
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

async function startReference(profile) {
  const child = new Process("reference", process.execPath, [REFERENCE, profile]);
  const [, url] = await child.line(/^listening (\S+)$/);
  return { url, stop: () => child.stop("SIGKILL"), log: () => child.log() };
}
