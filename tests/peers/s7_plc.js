// A Siemens PLC by npm's node-snap7: node s7_plc.js HOST:PORT, with the lines of tests/kits/plc_peer.py.
"use strict";
const snap7 = require("node-snap7");
const { serve } = require("./plc_lines.js");

const DB = 7, STATUS = 32;
const [host, port] = process.argv[2].split(":");
const server = new snap7.S7Server();
server.SetParam(server.LocalPort, Number(port));
server.RegisterArea(server.srvAreaDB, DB, Buffer.alloc(96));
if (!server.StartTo(host)) throw new Error(`cannot listen on ${host}:${port}`);
const area = () => server.GetArea(server.srvAreaDB, DB);
serve(
  () => {
    const data = area();
    return Array.from({ length: 32 }, (_, i) => data.readUInt16BE(STATUS + 2 * i));
  },
  (control) => {
    const data = area();
    control.forEach((word, i) => data.writeUInt16BE(word, 2 * i));
    server.SetArea(server.srvAreaDB, DB, data);
  },
);
