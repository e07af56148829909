// A person's walk through the clinic application, as docs/examples tells it.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { dumpIfFailed } from "../lib/suite.mjs";
import { Dev } from "../lib/walks.mjs";

describe("a morning at the laboratory", () => {
  let dev;
  before(async () => { dev = await Dev.start(); });
  after(() => dev?.stop());
  afterEach((test) => dumpIfFailed(test, dev));

  it("goes as the example tells it, on two nodes", async () => {
    const lines = await dev.walk("clinic");
    assert.ok(lines.some((line) => /^doctor +hears result:update .*\(27 bytes\)/.test(line)), lines.join("\n"));
  });
});
