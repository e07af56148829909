// Metrics as processes serve them, and as docs/observability.md lists them.

import { readFileSync, writeFileSync } from "node:fs";

const PAGE = new URL("../../docs/observability.md", import.meta.url);

/** The families of a scrape: name to `{ type, help, labels }`. */
export function families(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, what, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (what === "HELP") found.set(name, { help: rest, labels: new Set() });
    else if (what === "TYPE") found.get(name).type = rest;
    else if (line && !line.startsWith("#")) note(found, line);
  }
  return found;
}

function note(found, line) {
  const [, sample, labels = ""] = /^([a-z0-9_]+)(?:\{(.*)\})? /.exec(line);
  const family = found.get(sample) ?? found.get(sample.replace(/_(bucket|sum|count)$/, ""));
  for (const [, label] of labels.matchAll(/([a-z_]+)="(?:[^"\\]|\\.)*"/g)) if (label !== "le") family.labels.add(label);
}

/** What the name says of the unit. */
export const unit = (name) => /_(seconds|bytes)(?:_total)?$/.exec(name)?.[1] ?? "";

/** The row of the table for a family that processes of these roles serve. */
export function row(name, { type, labels, help }, roles) {
  const listed = [...labels].sort().map((label) => `\`${label}\``).join(", ");
  return `| \`${name}\` | ${type} | ${listed} | ${unit(name)} | ${[...roles].sort().join(", ")} | ${help} |`;
}

const isRow = (line) => /^\| `(trunkline|process)_/.test(line);

/** The rows of the table in the documentation. */
export function documented() {
  return readFileSync(PAGE, "utf8").split("\n").filter(isRow);
}

/** Puts these rows into the documentation, after the table's head. */
export function write(rows) {
  const lines = readFileSync(PAGE, "utf8").split("\n").filter((line) => !isRow(line));
  const head = lines.findIndex((line) => line.startsWith("| metric |"));
  lines.splice(head + 2, 0, ...rows);
  writeFileSync(PAGE, lines.join("\n"));
}
