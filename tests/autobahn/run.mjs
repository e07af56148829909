// Autobahn's WebSocket cases against the plain front. Needs `wstest` of the PyPI package autobahntestsuite (Python 2.7):
//   node tests/autobahn/run.mjs [case, …]        WSTEST=/path/to/wstest
// Prints how the cases ended and fails unless each is OK, non-strict, informational or about a window size that is not offered.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster } from "../lib/cluster.mjs";

const config = readFileSync(new URL("../e2e/plain.toml", import.meta.url), "utf8");
const cluster = await Cluster.start({ config, coordinators: 0 });
const dir = mkdtempSync(join(tmpdir(), "trunkline-autobahn-"));
const spec = join(dir, "fuzzingclient.json");
writeFileSync(spec, JSON.stringify({
  outdir: join(dir, "reports"),
  servers: [{ agent: "trunkline", url: `${cluster.url.replace("http", "ws")}/echo` }],
  cases: process.argv.length > 2 ? process.argv.slice(2) : ["*"],
  "exclude-cases": [],
  "exclude-agent-cases": {},
}));
const code = await new Promise((resolve, reject) => {
  const child = spawn(process.env.WSTEST ?? "wstest", ["-m", "fuzzingclient", "-s", spec], { stdio: ["ignore", "ignore", "inherit"] });
  child.on("error", reject).on("exit", resolve);
});
await cluster.stop();
const { trunkline: cases } = JSON.parse(readFileSync(join(dir, "reports", "index.json"), "utf8"));
const ends = {};
for (const [name, { behavior, behaviorClose }] of Object.entries(cases)) {
  const end = behavior === behaviorClose ? behavior : `${behavior}, close ${behaviorClose}`;
  (ends[end] ??= []).push(name);
}
for (const [end, names] of Object.entries(ends)) console.log(`${end}: ${names.length}${names.length <= 20 ? ` (${names.join(", ")})` : ""}`);
const fine = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"];
const bad = Object.values(cases).filter(({ behavior, behaviorClose }) => !fine.includes(behavior) || ![...fine, "UNCLEAN"].includes(behaviorClose));
console.log(`reports: ${join(dir, "reports", "index.html")}`);
process.exitCode = code === 0 && bad.length === 0 ? 0 : 1;
