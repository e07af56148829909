// What tests do to the files of nats-servers: look whether they are whole, and take them elsewhere.

import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./clients.mjs";

/** Where a server keeps its streams. */
export const storeOf = (nats, { name }) => join(nats.dir, name);

/** Resolves when every stream has a leader and all replicas are current, by the monitoring of the leaders. */
export function whole(nats) {
  return until(async () => (await behind(nats)).length === 0, 60_000);
}

/** Streams that have no leader, or a replica that is not current. */
async function behind(nats) {
  const known = new Map();
  for (const member of nats.members) {
    const jsz = await fetch(`http://127.0.0.1:${member.monitor}/jsz?accounts=true&streams=true`).then((response) => response.json());
    for (const { name, cluster } of jsz.account_details?.flatMap((account) => account.stream_detail ?? []) ?? []) {
      if (cluster?.leader === member.name) known.set(name, cluster.replicas ?? []);
      else if (!known.has(name)) known.set(name, []);
    }
  }
  const others = nats.members.length - 1;
  return [...known].filter(([, replicas]) => replicas.length < others || replicas.some((replica) => !replica.current || replica.lag)).map(([name]) => name);
}

/** Starts every server and waits until it serves. */
export async function launchAll(nats) {
  for (const member of nats.members) nats.launch(member);
  await Promise.all(nats.members.map((member) => nats.ready(member)));
}

/** Stops every process of a cluster; then its servers are started on a copy of their files, which is all that is left. */
export async function moveToACopy({ nodes, coordinators, nats }) {
  await Promise.all([...nodes, ...coordinators].map(({ process }) => process.stop()));
  await Promise.all(nats.members.map(({ process }) => process.stop()));
  const copy = mkdtempSync(join(tmpdir(), "trunkline-copy-"));
  for (const member of nats.members) cpSync(storeOf(nats, member), join(copy, member.name), { recursive: true });
  rmSync(nats.dir, { recursive: true });
  nats.dir = copy;
  await launchAll(nats);
}
