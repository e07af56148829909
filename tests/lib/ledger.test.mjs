// The ledger itself: it must find what it is there to find.

import assert from "node:assert/strict";
import { it } from "node:test";
import { Ledger } from "./ledger.mjs";

/** Two receivers, a sender each of two messages, all acknowledged. */
function sample(...deliveries) {
  const ledger = new Ledger();
  for (const name of ["x", "y"]) ledger.joined(name);
  for (const [id, sender] of [["a1", "a"], ["b1", "b"], ["a2", "a"]]) {
    ledger.sent(id, sender);
    ledger.acked(id);
  }
  for (const [name, ids] of deliveries) for (const id of ids) ledger.delivered(name, id);
  return ledger;
}

const ORDER = ["a1", "b1", "a2"];

it("accepts one order at everybody", () => {
  const ledger = sample(["x", ORDER], ["y", ORDER]);
  assert.ok(ledger.settled);
  ledger.assertRecoverable();
  assert.deepEqual(ledger.counts, { sent: 3, acked: 3, delivered: 6 });
});

it("finds loss, repetition, disorder, invention", () => {
  assert.throws(() => sample(["x", ORDER], ["y", ["a1", "a2"]]).assertRecoverable(), /misses/);
  assert.throws(() => sample(["x", ORDER], ["y", [...ORDER, "b1"]]).assertRecoverable(), /twice/);
  assert.throws(() => sample(["x", ORDER], ["y", ["b1", "a1", "a2"]]).assertRecoverable(), /different orders/);
  assert.throws(() => sample(["x", ["a2", "b1", "a1"]], ["y", ORDER]).assertEphemeral(), /after a later/);
  assert.throws(() => sample(["x", [...ORDER, "c1"]], ["y", ORDER]).assertRecoverable(), /nobody sent/);
});

it("owes nothing from before a join or after a leave", () => {
  const ledger = sample(["x", ORDER], ["y", ORDER]);
  ledger.joined("late");
  ledger.left("y");
  ledger.sent("b2", "b");
  ledger.acked("b2");
  assert.ok(!ledger.settled);
  for (const name of ["x", "late"]) ledger.delivered(name, "b2");
  ledger.assertRecoverable();
});
