// Socket.IO's own server with the `rooms` vocabulary of loadgen, for comparison. One process, no adapter: what
// Redis would add between nodes is not measured here.
// Usage: node node-server.mjs [port]; prints `listening <address>`.

import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { perMessageDeflate: false, httpCompression: false });

io.on("connection", (socket) => {
  const broadcast = (room, payload) => io.to(room).emit("event", room, payload);
  socket.on("join", async (room, ack) => {
    await socket.join(room);
    ack?.();
  });
  socket.on("leave", async (room, ack) => {
    await socket.leave(room);
    ack?.();
  });
  socket.on("send", broadcast);
  socket.on("store", (room, payload, ack) => {
    broadcast(room, payload);
    ack?.();
  });
  socket.on("echo", (payload, ack) => ack?.(payload));
});

http.listen(Number(process.argv[2] ?? 0), "127.0.0.1", 4096, () => {
  console.log(`listening 127.0.0.1:${http.address().port}`);
});
