// Child processes of a test: started, listened to line by line, stopped by pid. Owns that nothing outlives the test process.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Lines kept per process for the report of a failure. */
const KEPT_LINES = 400;

const running = new Set();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export class Process {
  /** Starts `command`; `name` heads its lines in failure reports. */
  constructor(name, command, args, options = {}) {
    this.name = name;
    this.lines = [];
    this.waiting = new Set();
    this.child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], ...options });
    running.add(this.child);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => this.#line(line));
    }
    this.exited = new Promise((resolve) => {
      this.child.on("error", (error) => this.#end(`cannot start: ${error.message}`, resolve));
      this.child.on("exit", (code, signal) => this.#end(`exited with ${signal ?? code}`, resolve, code));
    });
  }

  get pid() {
    return this.child.pid;
  }

  /** Resolves with the match of the first line, past or coming, that matches; rejects when the process ends or `ms` have passed. */
  line(pattern, ms = 60_000) {
    for (const line of this.lines) {
      const match = pattern.exec(line);
      if (match) return Promise.resolve(match);
    }
    return new Promise((resolve, reject) => {
      const fail = (why) => settle(() => reject(new Error(`${this.name}: ${why} before ${pattern}\n${this.log()}`)));
      const entry = { fail, see: (line) => { const match = pattern.exec(line); if (match) settle(() => resolve(match)); } };
      const timer = setTimeout(() => fail(`nothing for ${ms} ms`), ms);
      const settle = (then) => { clearTimeout(timer); this.waiting.delete(entry); then(); };
      if (this.ended) fail(this.ended);
      else this.waiting.add(entry);
    });
  }

  say(line) {
    this.child.stdin.write(`${line}\n`);
  }

  /** Sends `signal`, and SIGKILL after `ms`; resolves with the exit code once the process is gone. */
  async stop(signal = "SIGTERM", ms = 10_000) {
    if (this.ended) return this.exited;
    const timer = setTimeout(() => this.child.kill("SIGKILL"), ms);
    this.child.kill(signal);
    const code = await this.exited;
    clearTimeout(timer);
    return code;
  }

  log() {
    return this.lines.map((line) => `  ${this.name} | ${line}`).join("\n");
  }

  #line(line) {
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.splice(0, 1);
    for (const entry of [...this.waiting]) entry.see(line);
  }

  #end(why, resolve, code = null) {
    this.ended = why;
    running.delete(this.child);
    for (const entry of [...this.waiting]) entry.fail(why);
    resolve(code);
  }
}
