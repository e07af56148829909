// Waiting for what a client library tells.

import { deadline, SOON_MS } from "./engine.mjs";

/** Resolves with the arguments of the next `event`; rejects when it does not come. */
export function heard(emitter, event, ms = SOON_MS) {
  return new Promise((resolve, reject) => {
    const done = (...args) => { clearTimeout(timer); resolve(args); };
    const timer = deadline(ms, () => { emitter.off(event, done); reject(new Error(`no ${event} for ${ms} ms`)); });
    emitter.once(event, done);
  });
}

/** Resolves with the arguments of the first `event` that `matches`. */
export function heardWhere(emitter, event, matches, ms = SOON_MS) {
  return new Promise((resolve, reject) => {
    const see = (...args) => { if (matches(...args)) { end(); resolve(args); } };
    const timer = deadline(ms, () => { end(); reject(new Error(`no fitting ${event} for ${ms} ms`)); });
    const end = () => { clearTimeout(timer); emitter.off(event, see); };
    emitter.on(event, see);
  });
}

/** Resolves once `condition()` holds; it is looked at after every turn of the event loop. */
export async function until(condition, ms = SOON_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not true within ${ms} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
