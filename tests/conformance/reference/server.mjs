// The published server with the handlers of the conformance application: `node server.mjs <profile> [patient]`. Tests written against it
// say what stock clients meet elsewhere; it serves one node only.

import { createServer } from "node:http";
import { Server as EngineServer } from "engine.io";
import { Server } from "socket.io";

/** As `patient` of tests/lib/suite.mjs. */
const PING_TIMEOUT = process.argv[3] === "patient" ? 20_000 : 200;

const UTF8 = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

const profiles = {
  engineio(http) {
    const engine = new EngineServer({ pingInterval: 300, pingTimeout: PING_TIMEOUT, maxHttpBufferSize: 1_000_000 });
    engine.attach(http, { path: "/engine.io/" });
    engine.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
  },

  "engine-client"(http) {
    const engine = new EngineServer({
      pingInterval: 500, maxHttpBufferSize: 100,
      allowRequest: (request, allow) => allow(null, !new URL(request.url, "http://x").searchParams.has("deny")),
    });
    engine.attach(http, { path: "/engine.io/" });
    engine.on("initial_headers", (headers) => {
      headers["set-cookie"] = ["1=1; Path=/", "2=2; Path=/; Max-Age=3600", "3=3; Path=/; Max-Age=0"];
    });
    engine.on("connection", (socket) => {
      socket.send("hi");
      socket.on("message", (data) => {
        const answers = {
          "give binary": () => Buffer.from([0, 1, 2, 3, 4]),
          "give utf8": () => "пойду спать всем спокойной ночи",
          sendHeaders: () => JSON.stringify(socket.transport.dataReq?.headers ?? socket.request.headers),
        };
        socket.send(answers[data]?.() ?? data);
      });
    });
  },

  socketio(http) {
    const io = new Server(http, { pingInterval: 300, pingTimeout: PING_TIMEOUT, maxHttpBufferSize: 1_000_000, connectTimeout: 1000 });
    const serve = (socket) => {
      socket.emit("auth", socket.handshake.auth);
      socket.on("message", (...args) => socket.emit("message-back", ...args));
      socket.on("message-with-ack", (...args) => args.pop()(...args));
      socket.on("emit-with-ack", (...args) => {
        socket.emit("emit-with-ack", ...args, (...answer) => socket.emit("emit-with-ack", ...answer));
      });
    };
    io.on("connection", serve);
    io.of("/custom").on("connection", serve);
  },

  client(http) {
    const io = new Server(http, { pingInterval: 2000, connectionStateRecovery: {} });
    const id = (socket) => socket.on("getId", (ack) => ack(socket.id));
    io.of("/foo").on("connection", id);
    for (const name of ["/timeout_socket", "/valid", "/asd"]) io.of(name).on("connection", () => {});
    io.of("/abc").on("connection", (socket) => socket.emit("handshake", socket.handshake));
    io.of("/no").use((_, next) => next(new Error("Auth failed (custom namespace)")));
    io.use((socket, next) => next(socket.handshake.query.fail ? new Error("Auth failed (main namespace)") : undefined));
    io.on("connection", (socket) => {
      id(socket);
      serveClient(socket);
    });
  },
};

function serveClient(socket) {
  const seen = new Set();
  const ifBinary = (then) => (data) => Buffer.isBuffer(data) && then();
  const mixed = (answer) => (data) => {
    if (data.hello === "lol" && Buffer.isBuffer(data.message) && data.goodbye === "gotcha") socket.emit(answer);
  };
  const handlers = {
    hi: () => socket.emit("hi"),
    echo: (value, ack) => ack(value),
    ack: () => socket.emit("ack", (a, b) => a === 5 && b.test && socket.emit("got it")),
    getAckDate: (_, ack) => ack(new Date()),
    getDate: () => socket.emit("takeDate", new Date()),
    getDateObj: () => socket.emit("takeDateObj", { date: new Date() }),
    getUtf8: () => UTF8.forEach((text) => socket.emit("takeUtf8", text)),
    false: () => socket.emit("false", false),
    doge: () => socket.emit("doge", Buffer.from("asdfasdf")),
    getbin: () => socket.emit("takebin", Buffer.from("asdfasdf")),
    buffa: ifBinary(() => socket.emit("buffack")),
    jsonbuff: mixed("jsonbuff-ack"),
    jsonblob: mixed("jsonblob-ack"),
    abuff1: ifBinary(() => seen.add("abuff1")),
    abuff2: () => seen.has("abuff1") && socket.emit("abuff2-ack"),
    blob: ifBinary(() => socket.emit("back")),
    blob1: ifBinary(() => seen.add("blob1")),
    blob2: () => seen.has("blob1") && seen.add("blob2"),
    blob3: ifBinary(() => seen.has("blob2") && socket.emit("blob3-ack")),
    getHandshake: (ack) => ack(socket.handshake),
  };
  for (const [event, handler] of Object.entries(handlers)) socket.on(event, handler);
}

const http = createServer();
profiles[process.argv[2]](http);
http.listen(0, "127.0.0.1", () => console.log(`listening http://127.0.0.1:${http.address().port}`));
