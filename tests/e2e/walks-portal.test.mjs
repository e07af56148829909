// A person's walk through the portal, as docs/examples tells it.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { dumpIfFailed } from "../lib/suite.mjs";
import { Dev } from "../lib/walks.mjs";

describe("a day at the portal", () => {
  let dev;
  before(async () => { dev = await Dev.start(); });
  after(() => dev?.stop());
  afterEach((test) => dumpIfFailed(test, dev));

  it("goes as the example tells it, on two nodes", async () => {
    const lines = await dev.walk("portal");
    assert.ok(lines.some((line) => /^doctor +hears message:new .*both pills/.test(line)), lines.join("\n"));
  });
});
