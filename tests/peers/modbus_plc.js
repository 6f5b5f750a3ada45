// A PLC by npm's modbus-serial: node modbus_plc.js HOST:PORT, with the lines of tests/kits/plc_peer.py.
"use strict";
const { ServerTCP } = require("modbus-serial");
const { serve } = require("./plc_lines.js");

const words = new Array(200).fill(0);
const [host, port] = process.argv[2].split(":");
const vector = {
  getHoldingRegister: (address) => words[address],
  setRegister: (address, value) => { words[address] = value; },
};
const server = new ServerTCP(vector, { host, port: Number(port), unitID: 1 });
server.on("socketError", () => {});
server.on("initialized", () => serve(() => words.slice(100, 132), (control) => control.forEach((w, i) => { words[i] = w; })));
