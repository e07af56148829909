// Engine.IO 4 as raw HTTP and WebSocket frames: handshake, messages, heartbeat, close, upgrade, limits.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { elapse, Frames, Polling } from "../lib/engine.mjs";
import { againstReference, onEveryTopology } from "../lib/suite.mjs";

const PATH = "/engine.io/";
const PING_MS = 300;
const TIMEOUT_MS = 200;
const MAX_PAYLOAD = 1_000_000;
const UNKNOWN = { code: 1, message: "Session ID unknown" };

onEveryTopology("engineio", (url) => {
  const open = () => Polling.open(url(), PATH);
  const websocket = () => Frames.open(url(), PATH);

  describe("handshake", () => {
    const expected = { pingInterval: PING_MS, pingTimeout: TIMEOUT_MS, maxPayload: MAX_PAYLOAD };

    it("offers the upgrade over polling", async () => {
      const { sid, ...rest } = (await open()).handshake;
      assert.equal(typeof sid, "string");
      assert.deepEqual(rest, { ...expected, upgrades: ["websocket"] });
    });

    it("offers none over WebSocket", async () => {
      const frames = await websocket();
      const { sid, ...rest } = frames.handshake;
      assert.equal(typeof sid, "string");
      assert.deepEqual(rest, { ...expected, upgrades: [] });
      frames.close();
    });
  });

  describe("heartbeat", () => {
    it("is over at the deadline, for a poll and for a post", async () => {
      const [first, second] = await Promise.all([open(), open()]);
      await elapse(PING_MS + TIMEOUT_MS);
      assert.equal((await first.poll()).status, 400, "the session is dead");
      assert.equal((await second.post("3")).status, 400);
    });

    it("closes a silent WebSocket", async () => {
      const started = Date.now();
      const frames = await websocket();
      await frames.closing();
      assert.ok(Date.now() - started >= PING_MS + TIMEOUT_MS - 20);
    });
  });
});

onEveryTopology("engineio", (url) => {
  const open = () => Polling.open(url(), PATH);
  const websocket = (query) => Frames.open(url(), PATH, query);
  const gone = async (session) => assert.equal((await session.poll()).status, 400, "the session is dead");

  /** A second connection that has asked for the session and got its probe answered. */
  async function probe(session) {
    const frames = new Frames(url(), PATH, `&sid=${session.sid}`);
    await frames.opened;
    frames.send("2probe");
    assert.equal(await frames.next(), "3probe");
    return frames;
  }

  describe("handshake", () => {
    for (const [method, query] of [
      ["GET", "transport=polling"], ["GET", "EIO=abc&transport=polling"], ["GET", "EIO=4"],
      ["GET", "EIO=4&transport=abc"], ["POST", "EIO=4&transport=polling"], ["PUT", "EIO=4&transport=polling"],
    ]) {
      it(`refuses ${method} ?${query}`, async () => {
        assert.equal((await fetch(`${url()}${PATH}?${query}`, { method })).status, 400);
      });
    }

    it("refuses unknown and forged sessions at once", async () => {
      const { sid } = await open();
      const last = sid.at(-1) === "A" ? "B" : "A";
      for (const wrong of ["abc", `${sid.slice(0, -1)}${last}`, "%00%FF", "a.b.*.>", "x".repeat(4000)]) {
        const started = Date.now();
        const response = await fetch(`${url()}${PATH}?EIO=4&transport=polling&sid=${wrong}`);
        assert.equal(response.status, 400);
        assert.deepEqual(await response.json(), UNKNOWN);
        assert.ok(Date.now() - started < 400, "without waiting for another node");
      }
    });

    it("refuses a WebSocket for an unknown session", async () => {
      await assert.rejects(new Frames(url(), PATH, "&sid=abc").opened, /400/);
    });
  });

  describe("messages", () => {
    for (const [name, body] of [
      ["one", "4hello"], ["several", "4test1\x1e4test2\x1e4test3"], ["text and binary", "4hello\x1ebAQIDBA=="],
      ["multibyte text", "4пойду спать € 🎈\x1e4"],
    ]) {
      it(`echoes ${name} over polling`, async () => {
        const session = await open();
        assert.deepEqual(await session.post(body), { status: 200, text: "ok" });
        assert.deepEqual(await session.packets(body.split("\x1e").length), body.split("\x1e"));
      });
    }

    it("echoes text and binary over WebSocket", async () => {
      const frames = await websocket();
      frames.send("4hello", Buffer.from([1, 2, 3, 4]), "4€");
      assert.equal(await frames.nextPacket(), "4hello");
      assert.deepEqual(await frames.nextPacket(), Buffer.from([1, 2, 3, 4]));
      assert.equal(await frames.nextPacket(), "4€");
      frames.close();
    });

    it("keeps the order of hundreds of posts and polls", async () => {
      const session = await open();
      const sent = Array.from({ length: 300 }, (_, i) => `4m${i}`);
      const received = session.packets(sent.length);
      for (let i = 0; i < sent.length; i += 3) await session.post(sent.slice(i, i + 3).join("\x1e"));
      assert.deepEqual(await received, sent);
    });

    for (const body of ["abc", "4a\x1e9", "\x1e", "b****"]) {
      const skip = againstReference && "the reference answers ok before it closes";
      it(`closes the session of a body that is no packet: ${JSON.stringify(body)}`, { skip }, async () => {
        const session = await open();
        assert.equal((await session.post(body)).status, 400);
        await gone(session);
      });
    }

    it("closes the WebSocket of a frame that is no packet", async () => {
      const frames = await websocket();
      frames.send("abc");
      await frames.closing();
    });

    it("closes the session of two polls at once", async () => {
      const session = await open();
      // Either may be the first.
      const polls = await Promise.all([session.poll(), session.poll()]);
      polls.sort((a, b) => a.status - b.status);
      assert.deepEqual([polls[0], polls[1].status], [{ status: 200, text: "1" }, 400]);
      await gone(session);
    });

    it("closes the session of an abandoned poll", async () => {
      // A poll that is given up before it has arrived was never there: then it gets more time.
      for (const ms of [20, 100, 200]) {
        const session = await open();
        const abort = new AbortController();
        const poll = session.poll({ signal: abort.signal });
        await elapse(ms);
        abort.abort();
        await assert.rejects(poll);
        if ((await session.poll()).status === 400) return;
      }
      assert.fail("the session lives on");
    });
  });

  describe("heartbeat", () => {
    it("pings over polling", async () => {
      const session = await open();
      for (let round = 0; round < 3; round += 1) {
        assert.deepEqual(await session.poll(), { status: 200, text: "2" });
        assert.equal((await session.post("3")).status, 200);
      }
    });

    it("pings over WebSocket", async () => {
      const frames = await websocket();
      for (let round = 0; round < 3; round += 1) {
        assert.equal(await frames.next(), "2");
        frames.send("3");
      }
      frames.close();
    });
  });

  describe("close", () => {
    it("answers the pending poll with a noop", async () => {
      const session = await open();
      const [poll] = await Promise.all([session.poll(), session.post("1")]);
      assert.deepEqual(poll, { status: 200, text: "6" });
      await gone(session);
    });

    it("closes the WebSocket", async () => {
      const frames = await websocket();
      frames.send("1");
      await frames.closing();
    });
  });

  describe("upgrade", () => {
    it("moves the session", async () => {
      const session = await open();
      const frames = await probe(session);
      assert.deepEqual(await session.poll(), { status: 200, text: "6" });
      frames.send("5", "4hello");
      assert.equal(await frames.nextPacket(), "4hello");
      for (let round = 0; round < 3; round += 1) {
        assert.equal(await frames.next(), "2");
        frames.send("3");
      }
      frames.close();
    });

    it("refuses polls right after it, the WebSocket goes on", async () => {
      const session = await open();
      const frames = new Frames(url(), PATH, `&sid=${session.sid}`);
      await frames.opened;
      frames.send("2probe", "5");
      await gone(session);
      frames.send("4hello");
      assert.equal(await frames.next(), "3probe");
      assert.equal(await frames.nextPacket(), "4hello");
      frames.close();
    });

    it("closes a second WebSocket, the first goes on", async () => {
      const session = await open();
      const frames = new Frames(url(), PATH, `&sid=${session.sid}`);
      await frames.opened;
      frames.send("2probe", "5");
      await new Frames(url(), PATH, `&sid=${session.sid}`).closing();
      frames.send("4hello");
      assert.equal(await frames.next(), "3probe");
      assert.equal(await frames.nextPacket(), "4hello");
      frames.close();
    });

    it("that is given up leaves the session usable", async () => {
      const session = await open();
      const frames = await probe(session);
      frames.close();
      await frames.closing();
      await session.post("4still here");
      const packets = await session.packets(1);
      if (packets[0] === "6") packets.splice(0, 1, ...(await session.packets(1)));
      assert.deepEqual(packets, ["4still here"]);
    });

    it("can be tried again", async () => {
      const session = await open();
      const first = await probe(session);
      first.close();
      await first.closing();
      const frames = await probe(session);
      frames.send("5", "4hello");
      assert.equal(await frames.nextPacket(), "4hello");
      frames.close();
    });

    it("loses, repeats and reorders nothing while messages flow both ways", async () => {
      await Promise.all(Array.from({ length: 4 }, async (_, client) => {
        const session = await open();
        const sent = Array.from({ length: 60 }, (_, i) => `4c${client}m${i}`);
        const received = [];
        const polling = drain(session, received);
        for (const packet of sent.slice(0, 20)) await session.post(packet);
        const frames = await probe(session);
        // The probe is answered: a client may still post until its poll has come back.
        for (const packet of sent.slice(20, 24)) await session.post(packet);
        await polling;
        frames.send("5", ...sent.slice(24));
        while (received.length < sent.length) received.push(await frames.nextPacket());
        assert.deepEqual(received, sent);
        frames.close();
      }));
    });

    /** Polls until the noop of the upgrade, as a client does. */
    async function drain(session, received) {
      for (;;) {
        const { status, text } = await session.poll();
        assert.equal(status, 200, text);
        const packets = text.split("\x1e");
        if (packets.includes("2")) await session.post("3");
        received.push(...packets.filter((packet) => packet[0] === "4"));
        if (packets.includes("6")) return;
      }
    }
  });

  describe("limits", () => {
    it("takes a body of the greatest size", async () => {
      const session = await open();
      const body = `4${"a".repeat(MAX_PAYLOAD - 1)}`;
      const received = session.packets(1);
      assert.equal((await session.post(body)).status, 200);
      assert.equal((await received)[0].length, body.length);
    });

    it("answers 413 with an empty body over polling", async () => {
      const session = await open();
      assert.deepEqual(await session.post("a".repeat(MAX_PAYLOAD + 1)), { status: 413, text: "" });
    });

    it("closes with 1009 over WebSocket", async () => {
      const frames = await websocket();
      frames.send("a".repeat(MAX_PAYLOAD + 1));
      assert.equal(await frames.closing(), 1009);
    });
  });
}, { patient: true });
