// A PLC by npm's node-opcua-server: node opcua_plc.js HOST:PORT, with the lines of tests/kits/plc_peer.py.
"use strict";
console.log = console.warn = console.error; // the pipe is for answers
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { StatusCodes } = require("node-opcua-status-code");
const { DataType, Variant } = require("node-opcua-variant");
const { serve } = require("./plc_lines.js");

// Where a field is among the 32 words; two words for a long number or a float, high word first.
const U16 = { heartbeat: 1, seq: 3, result_ms: 11, frame_age_ms: 12, error: 13, recipe: 14, waiting: 15, checksum: 24, missed: 25, alarms: 26, result: 2, seq_tail: 31 };
const U32 = { trigger_id: 4, total: 16, rejected: 18, unknown: 20, encoder: 22 };
const F32 = { score: 6, threshold: 8 };
const CONTROL = { flags: [0, 1], heartbeat: [1, 1], trigger_id: [2, 2], encoder: [4, 2], recipe: [6, 1], command: [7, 1] };

const values = { flags: 0, offline: 0 };
for (const name of Object.keys({ ...U16, ...U32, ...F32 })) values[name] = 0;
const control = Object.fromEntries(Object.keys(CONTROL).map((name) => [name, 0]));

function status() {
  const data = Buffer.alloc(64);
  data.writeUInt16BE(values.flags | (values.offline << 4), 0);
  for (const [name, at] of Object.entries(U16)) data.writeUInt16BE(values[name], 2 * at);
  for (const [name, at] of Object.entries(U32)) data.writeUInt32BE(values[name], 2 * at);
  for (const [name, at] of Object.entries(F32)) data.writeFloatBE(values[name], 2 * at);
  data.writeUInt16BE(Math.trunc(Math.min(Math.max(values.score * 1000, 0), 65535)), 20);
  return Array.from({ length: 32 }, (_, i) => data.readUInt16BE(2 * i));
}

function setControl(words) {
  for (const [name, [at, size]] of Object.entries(CONTROL)) control[name] = size === 2 ? words[at] * 65536 + words[at + 1] : words[at];
}

function add(namespace, parent, group, store, name) {
  const dataType = name in F32 ? DataType.Float : store[name] !== undefined && (name in U32 || name === "encoder") ? DataType.UInt32 : DataType.UInt16;
  namespace.addVariable({
    componentOf: parent, browseName: `${group}.${name}`, nodeId: `s=CadaEdge.${group}.${name}`, dataType,
    minimumSamplingInterval: 100,
    value: {
      get: () => new Variant({ dataType, value: store[name] }),
      set: (variant) => { store[name] = variant.value; return StatusCodes.Good; },
    },
  });
}

async function main() {
  const [host, port] = process.argv[2].split(":");
  const rootFolder = fs.mkdtempSync(path.join(os.tmpdir(), "opcua-plc-"));
  const serverCertificateManager = new OPCUACertificateManager({ rootFolder });
  const server = new OPCUAServer({
    serverCertificateManager, serverCapabilities: { maxSessions: 50 },
    host, port: Number(port), hostname: host, resourcePath: "/plc",
    securityPolicies: [SecurityPolicy.None], securityModes: [MessageSecurityMode.None], allowAnonymous: true,
  });
  await server.initialize();
  const namespace = server.engine.addressSpace.getOwnNamespace();
  const parent = namespace.addObject({ organizedBy: server.engine.addressSpace.rootFolder.objects, browseName: "CadaEdge" });
  for (const name of Object.keys(values)) add(namespace, parent, "Status", values, name);
  for (const name of Object.keys(control)) add(namespace, parent, "Control", control, name);
  await server.start();
  serve(status, setControl);
}

main();
