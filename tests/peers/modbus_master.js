// A PLC as Modbus master by npm's modbus-serial: node modbus_master.js HOST:PORT CYCLES IDLE_POLLS POLL_MS
// Polls IDLE_POLLS times, then shakes hands CYCLES times (without end and without triggers where CYCLES is 0, until
// standard input closes), and prints one JSON object: what it saw, and when, in ms of its own clock.
"use strict";
const ModbusRTU = require("modbus-serial");

const BASE = 100, WORDS = 32, HEAD = 3, TAIL = 31;
const ENABLE = 1, TRIGGER = 2, ACK = 8;
const READY = 1, VALID = 1 << 11, ONLINE = 1 << 7, PASS = 1;
const GIVE_UP_MS = 20000;
const now = () => Number(process.hrtime.bigint()) / 1e6;
const plc = new ModbusRTU();
const seen = { polls: 0, torn: 0, pass_offline: 0, idle_ms: [], busy_ms: [], cycles: [], unasked: 0, poll_ms: [] };
let next = 0, lastSeq = 0, pollMs = 2, over = false;

async function poll(into) {
  const wait = next - now();
  if (wait > 0) await new Promise((done) => setTimeout(done, wait));
  const start = now();
  next = Math.max(next + pollMs, start + pollMs / 2);
  const { data } = await plc.readHoldingRegisters(BASE, WORDS);
  const end = now();
  if (into) into.push(end - start);
  seen.polls += 1;
  if (data[HEAD] !== data[TAIL]) seen.torn += 1;
  if ((data[2] & PASS) && !(data[0] & ONLINE)) seen.pass_offline += 1;
  return { data, end };
}

async function until(condition, into, unexpected) {
  const limit = now() + GIVE_UP_MS;
  for (;;) {
    const { data, end } = await poll(into);
    if (condition(data)) return { data, end };
    if (unexpected && unexpected(data)) seen.unasked += 1;
    if (end > limit) throw new Error(`nothing for ${GIVE_UP_MS} ms; the block is ${data}`);
  }
}

const control = (flags, id) => plc.writeRegisters(0, [flags, 0, id >>> 16, id & 0xffff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const score = (data) => { const b = Buffer.alloc(4); b.writeUInt16BE(data[6], 0); b.writeUInt16BE(data[7], 2); return b.readFloatBE(0); };

// A PASS that shows while none is due belongs to a part that was answered before, or to none.
async function cycle(id) {
  await control(ENABLE, 0);
  await until((d) => d[0] & READY, null, (d) => d[0] & VALID);
  const start = now();
  await control(ENABLE | TRIGGER, id);
  const { data, end } = await until((d) => d[0] & VALID, seen.busy_ms);
  seen.cycles.push({ id, shown_id: data[4] * 65536 + data[5], seq: data[HEAD], result: data[2], score: score(data), ms: end - start });
  await control(ENABLE | ACK, 0);
  await until((d) => !(d[0] & VALID), null, (d) => d[HEAD] !== data[HEAD]);
}

async function watch() {
  while (!over) {
    const { data } = await poll(seen.poll_ms);
    const step = (data[HEAD] - lastSeq + 65535) % 65535;
    if (lastSeq && step > 32768) seen.unasked += 1;
    lastSeq = data[HEAD];
    if (seen.poll_ms.length > 20000) seen.poll_ms.splice(0, 10000);
  }
}

async function main() {
  const [host, port] = process.argv[2].split(":");
  const [cycles, idle] = [Number(process.argv[3]), Number(process.argv[4])];
  pollMs = Number(process.argv[5]);
  await plc.connectTCP(host, { port: Number(port) });
  plc.setID(1);
  plc.setTimeout(5000);
  await until((d) => d[0] & ONLINE);
  for (let i = 0; i < idle; i += 1) await poll(seen.idle_ms);
  if (cycles === 0) {
    process.stdin.resume().on("end", () => { over = true; });
    await watch();
  }
  for (let id = 1; id <= cycles; id += 1) await cycle(id);
  process.stdout.write(JSON.stringify(seen) + "\n", () => process.exit(0));
}

main().catch((error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
