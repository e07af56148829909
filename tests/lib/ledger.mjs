// The ledger: every message that was sent, acknowledged, delivered; and at the end the promises, each one a question to it.
//
// A receiver owes a message if the message was sent after the receiver's join was acknowledged, was acknowledged itself, and was
// not the receiver's own. What was not acknowledged may arrive or not, but never twice.

import assert from "node:assert/strict";

export class Ledger {
  /** Counts sends and joins: what happened before what, in the one process that sees all clients. */
  #moment = 0;
  #messages = new Map();
  #receivers = new Map();

  /** `id` is handed to a client for sending. */
  sent(id, sender) {
    assert.ok(!this.#messages.has(id), `${id} is sent twice`);
    this.#messages.set(id, { sender, at: (this.#moment += 1), acked: false });
  }

  acked(id) {
    this.#messages.get(id).acked = true;
  }

  /** `receiver` was told that its join is settled. */
  joined(receiver) {
    this.#receivers.set(receiver, { from: (this.#moment += 1), got: [] });
  }

  /** `receiver` left or was cut off: it is owed nothing any more, also of what is under way. */
  left(receiver) {
    this.#receivers.get(receiver).from = Infinity;
  }

  delivered(receiver, id) {
    this.#receivers.get(receiver)?.got.push(id);
  }

  get counts() {
    const acked = [...this.#messages.values()].filter((message) => message.acked).length;
    const delivered = [...this.#receivers.values()].reduce((sum, { got }) => sum + got.length, 0);
    return { sent: this.#messages.size, acked, delivered };
  }

  /** Whether everything owed has come. */
  get settled() {
    return [...this.#receivers].every(([name]) => this.#missing(name).length === 0);
  }

  /** Exactly once to everybody it is owed to, and one order at all of them. */
  assertRecoverable() {
    this.#assertSound();
    for (const [name] of this.#receivers) {
      assert.deepEqual(this.#missing(name), [], `${name} misses acknowledged messages`);
    }
    this.#assertOneOrder();
  }

  /** At most once, in the order of each sender. */
  assertEphemeral() {
    this.#assertSound();
  }

  #missing(name) {
    const { from, got } = this.#receivers.get(name);
    const has = new Set(got);
    const owed = ([id, { sender, at, acked }]) => acked && sender !== name && at > from && !has.has(id);
    return [...this.#messages].filter(owed).map(([id]) => id);
  }

  /** Nothing invented, nothing twice, each sender's messages in the order they were sent. */
  #assertSound() {
    for (const [name, { got }] of this.#receivers) {
      const twice = got.filter((id, i) => got.indexOf(id) !== i);
      assert.deepEqual(twice, [], `${name} got messages twice`);
      const last = new Map();
      for (const id of got) {
        const message = this.#messages.get(id);
        assert.ok(message, `${name} got ${id}, which nobody sent`);
        assert.ok(message.at > (last.get(message.sender) ?? 0), `${name} got ${id} after a later one of ${message.sender}`);
        last.set(message.sender, message.at);
      }
    }
  }

  #assertOneOrder() {
    const all = [...this.#receivers];
    const [reference, ...others] = all.sort(([, a], [, b]) => b.got.length - a.got.length);
    for (const other of others) this.#assertSameOrder(reference, other);
    // The longest sequence may lack its owner's messages: neighbours are compared too.
    for (let i = 1; i < others.length; i += 1) this.#assertSameOrder(others[i - 1], others[i]);
  }

  #assertSameOrder([nameA, a], [nameB, b]) {
    const [inA, inB] = [new Set(a.got), new Set(b.got)];
    const common = (got, other) => got.filter((id) => other.has(id));
    assert.deepEqual(common(b.got, inA), common(a.got, inB), `${nameA} and ${nameB} see different orders`);
  }
}
