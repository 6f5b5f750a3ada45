// The lines that tests/kits/plc_peer.py answers, for PLCs made with npm packages.
"use strict";
const readline = require("node:readline");

const HEAD = 3, TAIL = 31, COUNTERS = [5, 17, 19, 21, 23];

exports.serve = (status, control) => {
  let seen, watching = false;
  const look = () => {
    const words = status();
    seen.samples += 1;
    seen.numbers.add(words[HEAD]);
    if (words[HEAD] !== words[TAIL]) seen.torn += 1;
    else if (COUNTERS.some((at) => words[at] !== words[HEAD])) seen.unseen += 1;
    if (watching) setImmediate(look);
  };
  const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
  const answer = (asked) => {
    if (asked === "status") return status();
    if (asked === "watched") { watching = false; return { ...seen, numbers: [...seen.numbers] }; }
    if (asked !== "watch") { control(asked); return "set"; }
    seen = { samples: 0, torn: 0, unseen: 0, numbers: new Set() };
    watching = true;
    look();
    return "watching";
  };
  readline.createInterface({ input: process.stdin }).on("line", (line) => say(answer(JSON.parse(line)))).on("close", () => process.exit(0));
  say("ready");
};
