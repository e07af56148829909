// Socket.IO 5 as raw frames, over WebSocket and over polling: connects, events, acks, attachments, refusals.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { elapse, Frames, Polling } from "../lib/engine.mjs";
import { onEveryTopology } from "../lib/suite.mjs";

const PATH = "/socket.io/";
const PLACEHOLDERS = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
const ATTACHMENTS = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];

/** The same few words for both transports: `send` packets, ask for the `next`. */
class OverPolling {
  static async open(url) {
    const transport = new OverPolling();
    transport.session = await Polling.open(url, PATH);
    transport.queue = [];
    return transport;
  }

  async send(...packets) {
    const encode = (packet) => (typeof packet === "string" ? packet : `b${packet.toString("base64")}`);
    assert.equal((await this.session.post(packets.map(encode).join("\x1e"))).status, 200);
  }

  async nextPacket() {
    while (this.queue.length === 0) this.queue.push(...(await this.session.packets(1)));
    const packet = this.queue.shift();
    return packet[0] === "b" ? Buffer.from(packet.slice(1), "base64") : packet;
  }

  close() {
    return this.session.post("1");
  }
}

onEveryTopology("socketio", (url) => {
  const websocket = () => Frames.open(url(), PATH);
  const transports = { WebSocket: websocket, polling: () => OverPolling.open(url()) };

  /** Connects to a namespace and checks the reply and the event `auth`. */
  async function connect(transport, { namespace = "", packet = `40${namespace}`, auth = "{}" } = {}) {
    await transport.send(packet);
    const reply = await transport.nextPacket();
    assert.equal(reply.slice(0, 2 + namespace.length), `40${namespace}`);
    const body = JSON.parse(reply.slice(2 + namespace.length));
    assert.deepEqual(Object.keys(body), ["sid"]);
    assert.equal(typeof body.sid, "string");
    assert.equal(await transport.nextPacket(), `42${namespace}["auth",${auth}]`);
    return body.sid;
  }

  async function packets(transport, count) {
    const all = [];
    while (all.length < count) all.push(await transport.nextPacket());
    return all;
  }

  for (const [name, open] of Object.entries(transports)) {
    describe(name, () => {
      for (const [what, options] of Object.entries({
        "the main namespace": {},
        "the main namespace with a payload": { packet: '40{"token":"123"}', auth: '{"token":"123"}' },
        "a custom namespace": { namespace: "/custom,", packet: "40/custom," },
        "a custom namespace without a comma": { namespace: "/custom,", packet: "40/custom" },
        "a custom namespace with a payload": { namespace: "/custom,", packet: '40/custom,{"token":"abc"}', auth: '{"token":"abc"}' },
      })) {
        it(`connects to ${what}`, async () => {
          const transport = await open();
          await connect(transport, options);
          await transport.close();
        });
      }

      it("refuses an unknown namespace", async () => {
        const transport = await open();
        await transport.send("40/random");
        assert.equal(await transport.nextPacket(), '44/random,{"message":"Invalid namespace"}');
        await transport.close();
      });

      it("keeps two namespaces of one session apart", async () => {
        const transport = await open();
        const main = await connect(transport);
        assert.notEqual(await connect(transport, { namespace: "/custom,", packet: "40/custom," }), main);
        await transport.send('42/custom,["message","there"]', '42["message","here"]');
        assert.deepEqual(await packets(transport, 2), ['42/custom,["message-back","there"]', '42["message-back","here"]']);
        await transport.send("41/custom,", '42["message","still"]');
        assert.equal(await transport.nextPacket(), '42["message-back","still"]');
        await transport.close();
      });

      it("echoes events and acks", async () => {
        const transport = await open();
        await connect(transport);
        await transport.send('42["message",1,"2",{"3":[true]}]', '42456["message-with-ack",1,"2",{"3":[false]}]');
        assert.equal(await transport.nextPacket(), '42["message-back",1,"2",{"3":[true]}]');
        assert.equal(await transport.nextPacket(), '43456[1,"2",{"3":[false]}]');
        await transport.close();
      });

      it("echoes attachments in events and acks", async () => {
        const transport = await open();
        await connect(transport);
        await transport.send(`452-["message",${PLACEHOLDERS}]`, ...ATTACHMENTS);
        assert.deepEqual(await packets(transport, 3), [`452-["message-back",${PLACEHOLDERS}]`, ...ATTACHMENTS]);
        await transport.send(`452-789["message-with-ack",${PLACEHOLDERS}]`, ...ATTACHMENTS);
        assert.deepEqual(await packets(transport, 3), [`462-789[${PLACEHOLDERS}]`, ...ATTACHMENTS]);
        await transport.close();
      });

      it("echoes nested attachments and an empty one", async () => {
        const transport = await open();
        await connect(transport);
        const args = '{"a":[{"_placeholder":true,"num":0}],"b":{"c":{"_placeholder":true,"num":1}}}';
        await transport.send(`452-["message",${args}]`, Buffer.from([0, 255]), Buffer.alloc(0));
        const [text, first, second] = await packets(transport, 3);
        assert.equal(text, `452-["message-back",${args}]`);
        assert.deepEqual([first, second], [Buffer.from([0, 255]), Buffer.alloc(0)]);
        await transport.close();
      });

      it("asks the client for an ack, plain and binary", async () => {
        const transport = await open();
        await connect(transport);
        await transport.send('42["emit-with-ack","a",1]');
        const [, id] = /^42(\d+)\["emit-with-ack","a",1\]$/.exec(await transport.nextPacket());
        await transport.send(`43${id}["b",2]`);
        assert.equal(await transport.nextPacket(), '42["emit-with-ack","b",2]');
        await transport.send('42["emit-with-ack"]');
        const [, next] = /^42(\d+)\["emit-with-ack"\]$/.exec(await transport.nextPacket());
        await transport.send(`461-${next}[{"_placeholder":true,"num":0}]`, ATTACHMENTS[0]);
        assert.deepEqual(await packets(transport, 2), ['451-["emit-with-ack",{"_placeholder":true,"num":0}]', ATTACHMENTS[0]]);
        await transport.close();
      });
    });
  }

  it("sends nothing unasked for 100 ms", async () => {
    const frames = await websocket();
    await connect(frames);
    await elapse(100);
    assert.deepEqual(frames.waiting, []);
    frames.close();
  });

  it("keeps the connection after a disconnect from the main namespace", async () => {
    const frames = await websocket();
    await connect(frames);
    frames.send("41");
    assert.equal(await frames.next(), "2");
    frames.close();
  });

  it("closes a connection that never connects to a namespace", async () => {
    const frames = await websocket();
    const pongs = setInterval(() => frames.send("3"), 200);
    await frames.closing();
    clearInterval(pongs);
  });

  for (const packet of ["4abc", "40{", '42["message"]']) {
    it(`closes a connection that begins with ${packet}`, async () => {
      const frames = await websocket();
      frames.send(packet);
      await frames.closing();
    });
  }

  for (const packet of ["4abc", "4", "47", "42{}", "42[]", "42[1,2", '42abc["message-with-ack",1]', '45["message"]', "451-[]"]) {
    it(`closes the connection of ${packet}`, async () => {
      const frames = await websocket();
      await connect(frames);
      frames.send(packet);
      await frames.closing(450);
    });
  }

  it("closes the connection of text among attachments, and of an attachment without a packet", async () => {
    const [first, second] = await Promise.all([websocket(), websocket()]);
    await Promise.all([connect(first), connect(second)]);
    first.send(`452-["message",${PLACEHOLDERS}]`, '42["message"]');
    second.send(ATTACHMENTS[0]);
    await Promise.all([first.closing(450), second.closing(450)]);
  });

  it("moves acks and namespaces with an upgrade", async () => {
    const transport = await OverPolling.open(url());
    await connect(transport);
    await connect(transport, { namespace: "/custom,", packet: "40/custom," });
    await transport.send('42["emit-with-ack","before"]');
    const [, id] = /^42(\d+)\["emit-with-ack","before"\]$/.exec(await transport.nextPacket());
    const frames = new Frames(url(), PATH, `&sid=${transport.session.sid}`);
    await frames.opened;
    frames.send("2probe");
    assert.equal(await frames.next(), "3probe");
    assert.equal(await transport.nextPacket(), "6");
    frames.send("5", `43${id}["after"]`, '42/custom,["message","moved"]');
    assert.deepEqual(await packets(frames, 2), ['42["emit-with-ack","after"]', '42/custom,["message-back","moved"]']);
    frames.close();
  });
}, { patient: true });
