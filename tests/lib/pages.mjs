// The documentation as its tests see it: fenced blocks with the mark that stands before each, as a comment that readers do not see.
//
//   <!-- stage: dev -->           from here on, a fresh directory beside a running `trunkline dev`; `empty`: beside nothing
//   <!-- file: NAME -->           the block is written to this file
//   <!-- run -->                  the block is run; `run if: PROGRAM`: where this program is installed
//   <!-- serve: PATTERN -->       the block is started and stays; it is up when it has printed this
//   <!-- prints -->               the last run printed these lines, `…` standing for anything; `prints: dev`: the stage did
//   <!-- not run: WHY -->         neither; WHY says what was done instead
//   <!-- run by: FILE -->         a test of its own runs it

import { readFileSync } from "node:fs";

const FENCE = /^( *)```(\S*).*$/;
const MARK = /^<!-- (stage|file|run if|run by|run|serve|prints|not run)(?:: (.*))? -->$/;

/** The steps of a page in their order: `{ mark, value, lang, text, line }`; a block without a mark has none. */
export function steps(file) {
  const lines = readFileSync(file, "utf8").split("\n");
  const found = [];
  let mark = null;
  for (let i = 0; i < lines.length; i += 1) {
    const marked = MARK.exec(lines[i]);
    if (marked?.[1] === "stage") found.push({ mark: "stage", value: marked[2], line: i + 1 });
    else if (marked) mark = { mark: marked[1], value: marked[2] };
    const fence = FENCE.exec(lines[i]);
    if (!fence) continue;
    const end = lines.findIndex((text, at) => at > i && text.trim() === "```");
    const text = lines.slice(i + 1, end).map((text) => text.replace(fence[1], "")).join("\n");
    found.push({ mark: null, ...mark, lang: fence[2], text, line: i + 1 });
    mark = null;
    i = end;
  }
  return found;
}
