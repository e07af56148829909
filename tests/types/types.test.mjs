// The event maps compile against the published client, with every check of the compiler on.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { it } from "node:test";
import { promisify } from "node:util";

const here = (file) => new URL(file, import.meta.url).pathname;

it("typed sockets of the five applications compile", async () => {
  const options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022", "--types", "node"];
  const { stdout } = await promisify(execFile)(process.execPath, [here("../node_modules/typescript/bin/tsc"), ...options, here("usage.ts")])
    .catch((error) => ({ stdout: error.stdout || error.message }));
  assert.equal(stdout, "");
});
