// A real coturn on loopback, and what it says to credentials.

import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { until } from "./clients.mjs";
import { freePort } from "./ports.mjs";
import { Process } from "./processes.mjs";

/** Both programs: the server, and its own test client. */
export function coturnInstalled() {
  try {
    for (const program of ["turnserver", "turnutils_uclient"]) execFileSync("which", [program], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

export class Coturn {
  /** Resolves once the server gives somebody with the shared secret a relay. */
  static async start(secret) {
    const coturn = new Coturn();
    coturn.dir = mkdtempSync(join(tmpdir(), "trunkline-coturn-"));
    coturn.port = await freePort();
    const relays = 40_000 + (coturn.port % 10_000);
    coturn.process = new Process("coturn", "turnserver", [
      "-n", "--log-file=stdout", "--no-cli", "--no-tls", "--no-dtls", "--listening-ip=127.0.0.1", `--listening-port=${coturn.port}`,
      "--relay-ip=127.0.0.1", `--min-port=${relays}`, `--max-port=${relays + 200}`, "--allow-loopback-peers", "--realm=test",
      "--use-auth-secret", `--static-auth-secret=${secret}`, `--pidfile=${join(coturn.dir, "pid")}`, `--db=${join(coturn.dir, "db")}`,
    ]);
    await until(async () => {
      if (coturn.process.ended) throw new Error(coturn.process.log());
      return (await coturn.#client(["-W", secret, "-u", "probe"])).ok;
    }, 20_000);
    return coturn;
  }

  /** Whether the server relays a packet for who has these credentials. */
  async accepts({ username, credential }) {
    const { ok, output } = await this.#client(["-u", username, "-w", credential]);
    if (!ok && !/Cannot complete Allocation/.test(output)) throw new Error(`neither accepted nor refused: ${output}`);
    return ok;
  }

  async #client(credentials) {
    const args = ["-y", "-c", "-n", "1", ...credentials, "-p", String(this.port), "127.0.0.1"];
    const { stdout, stderr, code } = await promisify(execFile)("turnutils_uclient", args, { timeout: 20_000 }).catch((error) => error);
    const output = `${stdout}${stderr}`;
    return { ok: !code && /Total lost packets 0 /.test(output), output };
  }

  log() {
    return this.process.log();
  }

  async stop() {
    await this.process.stop("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
