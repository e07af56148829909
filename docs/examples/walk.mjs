// What the walks share: tokens as an application's own server signs them, calls of its back end, and clients that say what they do and hear.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { io } from "socket.io-client";

const { JWT_SECRET, API_URL = "http://127.0.0.1:9100", API_KEY, DATA_DIR = "../../.trunkline" } = process.env;
const kept = (file) => readFileSync(new URL(`${DATA_DIR}/${file}`, import.meta.url), "utf8").trim();

/** How long to wait for what must come. */
const PATIENCE_MS = 20_000;

/** The addresses of two nodes: the script's arguments, else the ports of `make run`, whose second node is 3 ports on. */
export function nodes(port) {
  const [, , first = `http://127.0.0.1:${port}`, second = process.argv[2] ?? `http://127.0.0.1:${port + 3}`] = process.argv;
  return [first, second];
}

/** A token good for an hour, signed with JWT_SECRET or the key that `make run` keeps. */
export function token(claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${body}.${createHmac("sha256", JWT_SECRET ?? kept("jwt-key")).update(body).digest("base64url")}`;
}

/** A call of the application's back end: https or NATS in life, here the server API of the first node. */
export async function backEnd(app, call, body) {
  tell("back end", `${call} ${short(body)}`);
  const headers = { authorization: `Bearer ${API_KEY ?? kept("api-key")}`, "content-type": "application/json" };
  const response = await fetch(`${API_URL}/v1/apps/${app}/${call}`, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!answer.ok) throw new Error(`${call}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

const people = [];

/** A person with the stock client; what is heard is told and remembered. */
export function person(name, url, options) {
  const socket = io(url, { forceNew: true, ...options });
  const heard = [];
  people.push(socket);
  socket.onAny((event, ...args) => { heard.push([event, ...args]); tell(name, `hears ${event} ${args.map(short).join(" ")}`); });
  socket.on("connect_error", (error) => tell(name, `is not let in: ${error.message}`));
  return {
    socket,
    /** Says something without waiting for an answer. */
    say(event, ...args) {
      tell(name, `says ${event} ${args.map(short).join(" ")}`);
      socket.emit(event, ...args);
    },
    /** Says something and resolves with the ack. */
    async ask(event, ...args) {
      tell(name, `asks ${event} ${args.map(short).join(" ")}`);
      const ack = await socket.timeout(PATIENCE_MS).emitWithAck(event, ...args);
      tell(name, `is answered ${short(ack)}`);
      return ack;
    },
    /** Resolves with the payload of the first such event that fits, and takes it away: the next call waits for a further one. */
    async hears(event, fits = () => true) {
      const find = () => heard.findIndex(([it, ...args]) => it === event && fits(...args));
      const came = () => new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${name} heard no ${event}; heard: ${short(heard.map(([it]) => it))}`)), PATIENCE_MS);
        socket.onAny(function look() {
          if (find() >= 0) { clearTimeout(timer); socket.offAny(look); resolve(); }
        });
      });
      if (find() < 0) await came();
      return heard.splice(find(), 1)[0][1];
    },
  };
}

export const tell = (who, what) => console.log(`${who.padEnd(10)} ${what}`);

/** A headline of the walk. */
export const step = (text) => console.log(`\n# ${text}`);

/** Everybody goes home; without this the clients would keep the process alive. */
export function end() {
  for (const socket of people) socket.disconnect();
  console.log("\nThe walk is over.");
}

/** For the log: JSON, cut where it gets long. Bytes are named by their number. */
function short(value) {
  const bytes = (_, it) => (it?.type === "Buffer" ? `(${it.data.length} bytes)` : it);
  const text = JSON.stringify(value, bytes) ?? "";
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
