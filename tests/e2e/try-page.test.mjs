// The page on which telehealth is tried in a browser: served beside the description, and used in a real browser on three nodes.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { Browser, noBrowser } from "../lib/browser.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { CONFIG, token } from "../lib/visits.mjs";

const USERS = `
[[app.dev_users]]
email = "ann@example.org"
password = "ann"
user = "7"
role = "patient"
`;

describe("the page to try telehealth", () => {
  let cluster, browser;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG + USERS, nodes: 3, balancer: "testkit" });
  });
  after(async () => {
    try {
      await browser?.stop();
    } finally {
      await cluster?.stop();
    }
  });
  afterEach((test) => dumpIfFailed(test, cluster));

  it("is one document that runs no other script and reaches no other host", async () => {
    const description = await fetch(`${cluster.url}/api/docs`, { headers: { accept: "text/html" } }).then((response) => response.text());
    assert.match(description, /href="\/api\/docs\/try"/);
    const response = await fetch(`${cluster.url}/api/docs/try`);
    const text = await response.text();
    assert.deepEqual([response.status, response.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
    const [, script] = /<script>([^]*)<\/script>/.exec(text);
    const digest = createHash("sha256").update(script).digest("base64");
    assert.match(response.headers.get("content-security-policy"), /default-src 'none';.*frame-ancestors 'none'/);
    assert.ok(response.headers.get("content-security-policy").includes(`script-src 'sha256-${digest}'`));
    assert.doesNotMatch(text, /\{\{|https?:\/\//);
    assert.match(text, /<title>Try visits</);
    assert.equal((await fetch(`${cluster.url}/api/docs/try`, { method: "POST" })).status, 405);
  });

  it("logs two users in, who chat, call and watch each other", { skip: noBrowser }, async () => {
    browser = await Browser.start();
    const [ann, ben] = await Promise.all([browser.open(`${cluster.url}/api/docs/try`), browser.open(`${cluster.url}/api/docs/try`)]);
    const fill = (page, form, fields, button = 0) => page.evaluate(`(() => {
      const form = document.querySelector(${JSON.stringify(form)});
      for (const [name, value] of Object.entries(${JSON.stringify(fields)})) form.elements[name].value = value;
      form.requestSubmit(form.querySelectorAll("button:not([type])")[${button}]);
    })()`);
    const act = (page, event, fields, button) => fill(page, `form[data-event="${event}"]`, fields, button);
    const shows = (page, text) => page.until(`document.getElementById("log").textContent.includes(${JSON.stringify(text)})`);
    const isIn = (page) => page.until('document.getElementById("state").textContent.startsWith("connected") && !document.getElementById("acts").disabled');

    await fill(ann, "#login", { email: "ann@example.org", password: "wrong" });
    await shows(ann, "log-in failed: Invalid credentials");
    await fill(ann, "#login", { email: "ann@example.org", password: "ann" });
    await fill(ben, "#connect", { token: "nonsense" });
    await shows(ben, "refused: Authentication error: Invalid token");
    await fill(ben, "#connect", { token: token("8", { role: "doctor" }) });
    await Promise.all([isIn(ann), isIn(ben)]);

    await act(ann, "room:join", { roomId: "topic:news" });
    await shows(ann, 'answer to room:join {"success":true');
    await act(ben, "presence:subscribe", { userIds: "7, 9" });
    await shows(ben, '"userId":"7","status":"online"');
    await act(ben, "message:send", { roomId: "topic:news", message: "<b>hello</b>" });
    await shows(ann, '"message":"<b>hello</b>"');
    await act(ann, "call:initiate", { recipientId: "8" });
    await shows(ben, "heard call:incoming");
    await act(ben, "call:accept", {});
    await shows(ann, "heard call:accepted");
    await act(ann, "call:accept", {}, 2);
    await shows(ben, "heard call:ended");
    await fill(ann, "#any", { event: "notification:getUnreadCount", payload: "" });
    await shows(ann, 'answer to notification:getUnreadCount {"success":true,"unreadCount":0}');
    await fill(ann, "#any", { event: "nonsense", payload: "{" });
    await shows(ann, "the payload is no JSON");
    await fill(ann, "#any", { event: "nonsense", payload: "[1]" });
    await shows(ann, '"code":"unknown_event"');
    await ann.evaluate('document.getElementById("leave").click()');
    await shows(ben, '"userId":"7","status":"offline"');
  });
});
