// Who leads the streams of a nats cluster, and moving it: a few lines of the NATS protocol, so that the tests need no client library.

import { connect } from "node:net";
import { until } from "./clients.mjs";

/** One request on a connection of its own; resolves with the answer's JSON. */
function request(port, subject, payload) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const inbox = `_INBOX.test.${Math.random().toString(36).slice(2)}`;
    const body = JSON.stringify(payload);
    let text = "";
    const timer = setTimeout(() => { socket.destroy(); reject(new Error(`no answer to ${subject}`)); }, 5000);
    socket.on("error", reject);
    socket.on("connect", () => {
      socket.write(`CONNECT {"verbose":false}\r\nSUB ${inbox} 1\r\nPUB ${subject} ${inbox} ${Buffer.byteLength(body)}\r\n${body}\r\n`);
    });
    socket.on("data", (data) => {
      text += data;
      const answer = /\r\nMSG \S+ 1 \d+\r\n(.*)\r\n/.exec(text);
      if (!answer) return;
      clearTimeout(timer);
      socket.destroy();
      resolve(JSON.parse(answer[1]));
    });
  });
}

/** The streams of the cluster with their leaders, as the servers' monitoring tells them. */
async function leaders(nats) {
  const found = {};
  for (const member of nats.members) {
    const jsz = await fetch(`http://127.0.0.1:${member.monitor}/jsz?accounts=true&streams=true`).then((r) => r.json());
    const streams = jsz.account_details?.flatMap((account) => account.stream_detail ?? []) ?? [];
    for (const stream of streams) if (stream.cluster?.leader) found[stream.name] = stream.cluster.leader;
  }
  return found;
}

/** Makes `server` the leader of every stream; resolves with their names. */
export async function leadStreamsFrom(nats, server) {
  const names = Object.keys(await leaders(nats));
  const { port } = nats.members.find(({ name }) => name === server);
  await until(async () => {
    const now = await leaders(nats);
    const others = names.filter((name) => now[name] !== server);
    for (const name of others) {
      // A stream between two leaders does not answer; the next round asks again.
      await request(port, `$JS.API.STREAM.LEADER.STEPDOWN.${name}`, { placement: { preferred: server } }).catch(() => {});
    }
    return others.length === 0;
  }, 20_000);
  return names;
}
