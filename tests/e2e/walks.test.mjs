// A person's walks through the messenger, telehealth and diet, as docs/examples tells them.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { dumpIfFailed } from "../lib/suite.mjs";
import { Dev } from "../lib/walks.mjs";

describe("walks of docs/examples, on two nodes", () => {
  let dev;
  before(async () => { dev = await Dev.start(); });
  after(() => dev?.stop());
  afterEach((test) => dumpIfFailed(test, dev));

  for (const [app, heard] of Object.entries({
    messenger: /^ben's tab +hears call:answered_elsewhere /,
    telehealth: /^doctor +hears presence:changed .*"status":"in_call"/,
    diet: /^dietitian +hears new_notification .*Yeni mesaj: Ayşe/,
  })) {
    it(`the example of ${app} goes as it tells`, async () => {
      const lines = await dev.walk(app);
      assert.ok(lines.some((line) => heard.test(line)), lines.join("\n"));
    });
  }
});
