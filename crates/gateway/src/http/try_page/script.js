"use strict";
// A small Socket.IO client on a WebSocket, enough to try an application by hand; applications use the published clients.
(() => {
  const { path, namespace } = document.body.dataset;
  const within = namespace === "/" ? "" : namespace + ",";
  const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS, MOST_LINES] = [500, 10000, 500];
  const byId = (id) => document.getElementById(id);
  let ws, token, wanted = false, pauseMs = FIRST_PAUSE_MS, nextAck = 0, timer;
  const waiting = new Map();

  function tell(kind, ...words) {
    const log = byId("log"), line = document.createElement("div");
    line.className = kind;
    line.textContent = words.map((word) => (typeof word === "string" ? word : JSON.stringify(word))).join(" ");
    log.append(line);
    while (log.childElementCount > MOST_LINES) log.firstChild.remove();
    log.scrollTop = log.scrollHeight;
  }

  function state(text, isIn) {
    byId("state").textContent = text;
    byId("acts").disabled = !isIn;
  }

  // A stock client comes back when the transport breaks, and stays away when it was refused or disconnected: so does this one.
  function stop(why) {
    wanted = false;
    clearTimeout(timer);
    state(why, false);
    if (ws) ws.close();
  }

  function open() {
    if (document.body.dataset.parser !== "json") return stop("this application speaks msgpack, which this page does not");
    state("connecting", false);
    waiting.clear();
    const own = ws = new WebSocket(location.origin.replace(/^http/, "ws") + path + "/?EIO=4&transport=websocket");
    own.onmessage = ({ data }) => { if (own === ws) heard(data); };
    own.onclose = () => {
      if (own !== ws || !wanted) return;
      state("the connection broke, trying again", false);
      timer = setTimeout(open, pauseMs);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    };
  }

  function heard(data) {
    if (typeof data !== "string") return tell("heard", "(binary data)");
    if (data[0] === "0") return ws.send("40" + within + JSON.stringify({ token }));
    if (data[0] === "2") return ws.send("3");
    if (data[0] !== "4") return;
    const [, type, id, body] = /^4(\d)(?:\d+-)?(?:\/[^,]*,)?(\d*)([^]*)$/.exec(data);
    const said = body ? JSON.parse(body) : undefined;
    if (type === "0") { pauseMs = FIRST_PAUSE_MS; return state("connected, socket " + said.sid, true); }
    if (type === "1") return stop("disconnected by the server");
    if (type === "4") { tell("wrong", "refused:", said.message, said.data || {}); return stop("refused: " + said.message); }
    if (type === "3" || type === "6") return answered(Number(id), said);
    const [event, ...args] = said;
    if (event === "call:incoming" || event === "call:active") byId("call").value = args[0].callId;
    tell(event === "error" ? "wrong" : "heard", "heard", event, ...args);
  }

  function answered(id, [ack]) {
    const event = waiting.get(id);
    waiting.delete(id);
    if (ack && ack.callId && ack.success) byId("call").value = ack.callId;
    tell(ack && ack.success === false ? "wrong" : "heard", "answer to", event, ack);
  }

  function say(event, payload) {
    const id = nextAck++;
    waiting.set(id, event);
    tell("said", "said", event, payload === undefined ? "" : payload);
    ws.send("42" + within + id + JSON.stringify(payload === undefined ? [event] : [event, payload]));
  }

  /** The fields of a form that were filled in. */
  function fields(form) {
    const filled = [...form.elements].filter((field) => field.name && field.value.trim());
    const value = (field) => ("list" in field.dataset ? field.value.split(",").map((part) => part.trim()).filter(Boolean) : field.value.trim());
    return filled.length ? Object.fromEntries(filled.map((field) => [field.name, value(field)])) : undefined;
  }

  const onSubmit = (form, act) => form.addEventListener("submit", (event) => { event.preventDefault(); act(event.submitter); });

  onSubmit(byId("login"), async () => {
    const response = await fetch("/api/v1/auth/login", { method: "POST", body: JSON.stringify(fields(byId("login"))) });
    const answer = await response.json();
    if (!answer.token) return tell("wrong", "log-in failed:", answer.error || String(response.status));
    byId("connect").elements.token.value = answer.token;
    byId("connect").requestSubmit();
  });
  onSubmit(byId("connect"), () => {
    stop("connecting");
    ({ token } = fields(byId("connect")));
    wanted = true;
    open();
  });
  byId("leave").addEventListener("click", () => stop("not connected"));
  for (const form of document.querySelectorAll("form[data-event]")) {
    onSubmit(form, (button) => say((button && button.value) || form.dataset.event, fields(form)));
  }
  onSubmit(byId("any"), () => {
    const { event, payload } = fields(byId("any"));
    try {
      say(event, payload === undefined ? undefined : JSON.parse(payload));
    } catch (error) {
      tell("wrong", "the payload is no JSON:", error.message);
    }
  });
})();
