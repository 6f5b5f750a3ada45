"use strict";
// Asks for the status twice a second and shows it. Names and messages come from files, cameras
// and networks: they only ever become text, never markup.

const POLL_MS = 500, PATIENCE_MS = 1400, STALE_S = 1.5, OLD_S = 5;
const WORDS = { ok: "PASS", ng: "REJECT", undecided: "UNKNOWN" };
const RESULTS = { PASS: "ok", FAIL: "ng", REJECT: "ng", UNKNOWN: "undecided" };
const SHAPES = {
  ok: ["M50 4a46 46 0 1 0 .1 0z", "M28 52l16 16 30-36"],
  ng: ["M32 5h36l27 27v36l-27 27h-36l-27-27v-36z", "M34 34l32 32M66 34l-32 32"],
  undecided: ["M50 6l46 86h-92z", "M39 48q0-11 11-11t11 11q0 6-6 9t-5 8M50 76v4"],
  idle: ["M8 8h84v84h-84z", "M30 50h40"],
};
let state = null, received = 0, failure = "connecting";

const at = (id) => document.getElementById(id);
const colours = () => { const style = getComputedStyle(document.documentElement); return (name) => style.getPropertyValue(name).trim(); };
const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const clock = (unix_s) => new Date(unix_s * 1000).toLocaleTimeString();
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const elapsed = () => (performance.now() - received) / 1000;
const age = () => (state && state.age_s !== null ? state.age_s + elapsed() : Infinity);
const since = (mono_s) => Math.max(0, state.now_mono_s + elapsed() - mono_s);

function ago(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min ago`;
}

function bytes(value) {
  if (value === null) return "–";
  return value < 1e9 ? `${Math.round(value / 1e6)} MB` : `${(value / 1e9).toFixed(1)} GB`;
}

function el(tag, name, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function shape(kind) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("aria-hidden", "true");
  SHAPES[kind].forEach((d) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    path.setAttribute("fill", "none");
    path.setAttribute("stroke", "currentColor");
    path.setAttribute("stroke-width", "8");
    svg.append(path);
  });
  return svg;
}

// What is judged together: the stations, and every source that belongs to none.
function groups(status) {
  const taken = new Set(status.stations.flatMap((s) => s.sources));
  const known = new Set([...status.sources.map((s) => s.id), ...status.newest.map((p) => p.source)]);
  const loose = [...known].filter((id) => !taken.has(id)).map((id) => ({ id, station: null, sources: [id] }));
  const stations = status.stations.filter((s) => s.sources.length || !loose.length);
  return [...stations.map((s) => ({ id: s.id, station: s, sources: s.sources })), ...loose];
}

function headline(group, status) {
  const { station } = group;
  const idle = (word, why) => ({ kind: "idle", word, why, since_s: null });
  if (age() > STALE_S) return idle("NO DATA", state ? `since ${clock(lastLife())}` : failure);
  if (station && !station.online) return idle("OFFLINE", station.offline_reason || station.state);
  const lost = status.sources.find((s) => group.sources.includes(s.id) && !s.healthy);
  if (lost) return idle("NO IMAGE", `${lost.id}: ${lost.error || "the source gives no frames"}`);
  const parts = status.newest.filter((p) => group.sources.includes(p.source)).sort((a, b) => b.t_mono_s - a.t_mono_s);
  return station && station.last_result ? stationHeadline(station, parts) : partHeadline(parts[0], idle);
}

function partHeadline(part, idle) {
  if (!part) return idle("WAITING", "no part yet");
  return { kind: part.status, word: WORDS[part.status], why: part.reason, since_s: since(part.t_mono_s) };
}

// The station has the last word; a newer reject of one of its views is shown before it is asked again.
function stationHeadline(station, parts) {
  const spoken = station.last_result_mono_s ?? 0;
  const newer = parts.find((p) => p.t_mono_s > spoken && p.status !== "ok");
  const kind = newer ? newer.status : RESULTS[station.last_result];
  const reason = (newer ?? parts.find((p) => p.status === kind) ?? { reason: "" }).reason;
  const spoken_s = newer ? newer.t_mono_s : station.last_result_mono_s ?? (parts[0] ? parts[0].t_mono_s : null);
  return { kind, word: WORDS[kind], why: reason, since_s: spoken_s === null ? Infinity : since(spoken_s) };
}

const lastLife = () => state.now_unix_s - state.age_s;

function hero(group, status) {
  const shown = headline(group, status);
  const old = shown.since_s !== null && shown.since_s > OLD_S;
  const node = el("div", `hero ${old ? "old" : shown.kind}`, shape(shown.kind), el("div", shown.word.length > 6 ? "word long" : "word", shown.word));
  if (groups(status).length > 1 || group.station) node.append(el("div", "what", group.id));
  const when = shown.since_s === null ? "" : shown.since_s === Infinity ? "time unknown" : old ? `last part ${ago(shown.since_s)}` : "";
  node.append(el("div", "why", [when, shown.why, shown.kind === "undecided" ? "treated as a reject" : ""].filter(Boolean).join(" · ")));
  return node;
}

// The picture elements stay, so that a new one replaces the old without a flicker.
function view(source) {
  const picture = (kind, words, caption) => {
    const img = document.createElement("img");
    img.alt = `${words} of ${source}`;
    const none = el("div", "none", `no ${words}`);
    const figure = el("figure", "", img, none, el("figcaption", "", caption));
    return { img, none, figure, kind };
  };
  const [image, heat] = [picture("image", "picture", "picture"), picture("heatmap", "heatmap", "heatmap: 1 is the most a good part shows")];
  const ramp = document.createElement("img");
  ramp.src = "/scale.png";
  ramp.alt = "colours of the heatmap";
  const scale = el("div", "scale", ramp, el("span", "", "2"), el("span", "", "1"), el("span", "", "0"));
  const caption = el("p");
  return { node: el("div", "view", el("div", "pair", image.figure, heat.figure, scale), caption), image, heat, caption };
}

function fillView(made, source, status) {
  const shown = state.pictures[source];
  for (const { img, none, kind } of [made.image, made.heat]) {
    const there = Boolean(shown) && (kind === "image" || shown.heatmap);
    img.hidden = !there;
    none.hidden = there;
    const address = there ? `/${kind}/${encodeURIComponent(source)}.jpg?${shown.part.number}` : "";
    if (there && !img.src.endsWith(address)) img.src = address;
  }
  if (!shown) { made.caption.textContent = `${source}: no picture yet`; return; }
  const part = shown.part;
  made.caption.textContent = `${source} · frame ${part.frame_id} · ${part.name ? part.name + " · " : ""}${WORDS[part.status]} · ` +
    `score ${number(part.score)} · threshold ${number(part.threshold)} · ${clock(part.t_unix_s)}`;
}

let layout = "", made = [];

function showGroups(status) {
  const all = groups(status);
  const wanted = JSON.stringify(all.map((g) => [g.id, g.sources]));
  if (wanted !== layout) {
    layout = wanted;
    made = all.map((g) => ({ hero: el("div", "hero idle"), views: g.sources.map((s) => [s, view(s)]) }));
    at("groups").replaceChildren(...made.map((m) => el("section", m.views.length > 1 ? "group many" : "group", m.hero, el("div", "views", ...m.views.map(([, v]) => v.node)))));
    at("groups").className = all.length === 1 ? "single" : "";
  }
  all.forEach((group, i) => {
    const fresh = hero(group, status);
    if (!made[i].hero.isEqualNode(fresh)) {
      made[i].hero.replaceWith(fresh);
      made[i].hero = fresh;
    }
    made[i].views.forEach(([source, v]) => fillView(v, source, status));
  });
}

function rows(id, items, empty = "none") {
  const body = items.length ? el("table", "", el("tbody", "", ...items)) : el("p", "empty", empty);
  at(id).querySelector("div").replaceChildren(body);
}

function row(label, value, note = "", mood = "", size = "") {
  const head = el("th", "", label, note ? el("span", "note", note) : null);
  return el("tr", "", head, el("td", `${mood} ${size}`.trim(), value));
}

const total = (counts, key) => counts.reduce((sum, c) => sum + c[key], 0);

function showCounters(status) {
  const [ok, ng, undecided] = ["ok", "ng", "undecided"].map((key) => total(status.verdicts, key));
  const judged = ok + ng + undecided, share = (n) => (judged ? `${(100 * n / judged).toFixed(1)} %` : "");
  const missed = total(status.stations, "missed"), latency = status.latency;
  rows("counters", [
    row("judged", judged.toLocaleString("en"), `since ${new Date(status.started_unix_s * 1000).toLocaleString()}`, "", "big"),
    row("passed", ok.toLocaleString("en"), share(ok), "good", "big"),
    row("rejected", ng.toLocaleString("en"), share(ng), ng ? "bad" : "", "big"),
    row("unknown", undecided.toLocaleString("en"), share(undecided), undecided ? "care" : "", "big"),
    ...(status.stations.length ? [row("missed triggers", missed.toLocaleString("en"), "", missed ? "bad" : "")] : []),
    row("capture to verdict", `${number(latency.p50_ms, 1)} ms`, `99 of 100 within ${number(latency.p99_ms, 1)} ms`),
    row("threshold", number(status.threshold), "a score above it is a reject", status.threshold === null ? "bad" : ""),
  ]);
}

function showRejects(status) {
  const have = new Set(state.thumbnails);
  const items = status.rejects.map((part) => {
    let picture = el("div", "none", "no picture kept");
    if (have.has(part.number)) {
      picture = document.createElement("img");
      picture.src = `/reject/${part.number}.jpg`;
      picture.alt = "";
    }
    const mood = part.status === "ng" ? "bad" : "care";
    return el("li", "", picture, el("div", "body",
      el("span", mood, `${part.status === "ng" ? "✕" : "▲"} ${WORDS[part.status]} ${number(part.score)}`),
      el("div", "", `${clock(part.t_unix_s)} · ${part.source} · ${part.name || "frame " + part.frame_id}`),
      el("div", "why", part.reason)));
  });
  const key = JSON.stringify([status.rejects.map((p) => p.number), state.thumbnails]);
  const list = at("rejects").querySelector("ol");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...(items.length ? items : [el("li", "empty", "none")]));
}

const light = (good, words, bad) => [good ? `● ${words}` : `■ ${bad}`, good ? "good" : "bad"];

function showStates(status) {
  rows("stations", status.stations.map((s) => {
    const [word, mood] = light(s.online, s.state.toLowerCase(), "offline");
    const note = `${s.offline_reason ? s.offline_reason + " · " : ""}${s.mode.replace("_", " ")} · no. ${s.seq} · ${s.judged} judged, ${s.rejected} rejected, ${s.unknown} unknown, ${s.missed} missed` +
      (s.alarms.length ? ` · ALARM: ${s.alarms.join(", ")}` : "");
    return row(s.id, word, note, mood);
  }));
  rows("sources", status.sources.map((s) => {
    const [word, mood] = light(s.healthy, s.fps === null ? "ready" : `${number(s.fps, 1)} fps`, "lost");
    const note = `${plural(s.frames, "frame")}, ${s.drops} dropped${s.age_ms === null ? "" : `, newest ${Math.round(s.age_ms)} ms old`}${s.error ? " · " + s.error : ""}`;
    return row(s.id, word, note, mood);
  }));
  rows("links", status.links.map((l) => {
    const [word, mood] = light(l.up, "up", "down");
    const late = l.late ? ` · ${plural(l.late, "result")} too late for the PLC` : "";
    const note = `${l.address}${l.since_unix_s === null ? "" : " · since " + clock(l.since_unix_s)}${late}${l.error ? " · " + l.error : ""}`;
    return row(l.kind, word, note, l.late && l.up ? "care" : mood);
  }));
  rows("sinks", status.sinks.map((s) => {
    const [word, mood] = light(s.healthy, "keeps", "fails");
    const away = s.reached === false;
    const waiting = away || s.waiting > 99 ? `${away ? (s.name === "mqtt" ? "broker" : "receiver") + " away, " : ""}${s.waiting} waiting` : "";
    const note = [s.failures ? `${plural(s.failures, "record")} lost` : "", waiting, away ? s.error : ""].filter(Boolean).join(" · ");
    return row(s.name, word, note, (s.failures || away) && s.healthy ? "care" : mood);
  }));
  rows("drift", status.drift.flatMap(driftRows), "not enough parts yet");
  showHost(status.host);
}

function driftRows(d) {
  const waiting = d.distance === null;
  const scores = row(`${d.source}: scores`, waiting ? "waiting" : d.drifted ? "■ drifted" : "● as calibrated",
    waiting ? `${plural(d.n, "part")} so far` : `last ${d.n} · distance ${number(d.distance, 2)} · p ${d.p_value === null ? "–" : d.p_value.toPrecision(2)}`,
    waiting ? "" : d.drifted ? "bad" : "good");
  if (d.novelty_median === null) return [scores];
  return [scores, row(`${d.source}: features`, d.feature_drifted ? "■ drifted" : "● known",
    `novelty ${number(d.novelty_median, 2)}, limit ${number(d.novelty_limit, 2)}`, d.feature_drifted ? "bad" : "good")];
}

function showHost(host) {
  const short = (free, size) => free !== null && size !== null && free < 0.05 * size;
  const hot = host.temperature_c !== null && host.temperature_c > 85;
  rows("host", [
    row("temperature", host.temperature_c === null ? "–" : `${Math.round(host.temperature_c)} °C`, "", hot ? "bad" : ""),
    row("load", number(host.load_1m, 2), `of ${plural(host.cpus, "core")}`, host.load_1m > 2 * host.cpus ? "care" : ""),
    row("memory free", bytes(host.memory_free_bytes), `of ${bytes(host.memory_bytes)}, the line uses ${bytes(host.process_bytes)}`, short(host.memory_free_bytes, host.memory_bytes) ? "bad" : ""),
    row("disk free", bytes(host.disk_free_bytes), `of ${bytes(host.disk_bytes)}`, short(host.disk_free_bytes, host.disk_bytes) ? "bad" : ""),
  ]);
}

function showBanner(status) {
  const stale = age() > STALE_S;
  document.body.classList.toggle("stale", stale);
  const words = [];
  if (stale) words.push(state && status ? `NO DATA since ${clock(lastLife())}: ${failure || "the line is silent"}` : `NO DATA: ${failure || "the line has not spoken yet"}`);
  else if (status) {
    status.stations.filter((s) => s.alarms.length).forEach((s) => words.push(`Alarm at ${s.id}: ${s.alarms.join(", ")}`));
    status.sources.filter((s) => !s.healthy).forEach((s) => words.push(`${s.id} gives no frames${s.error ? ": " + s.error : ""}`));
    status.links.filter((l) => !l.up).forEach((l) => words.push(`${l.kind} ${l.address} is down${l.error ? ": " + l.error : ""}`));
    if (status.threshold === null) words.push("The bundle has no threshold: nothing can pass");
  }
  at("banner").hidden = !words.length;
  at("banner").textContent = words.join("\n");
}

function showHead(status) {
  at("model").textContent = `${status.bundle} · ${status.bundle_sha256.slice(0, 12)} · cada-edge ${status.version}`;
  document.title = age() > STALE_S ? "NO DATA – cada-edge" : "cada-edge";
}

function tick() {
  const status = state && state.status;
  showBanner(status);
  at("clock").textContent = age() > STALE_S ? "no data" : `live · ${new Date((state.now_unix_s + elapsed()) * 1000).toLocaleTimeString()}`;
  if (!status) return;
  showHead(status);
  showGroups(status);
}

function show() {
  const status = state.status;
  if (status) {
    showCounters(status);
    showRejects(status);
    showStates(status);
    drawHistory(at("history"), status.history, colours());
  }
  tick();
}

async function poll() {
  const began = performance.now();
  try {
    const reply = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!reply.ok) throw new Error(`the page answers ${reply.status}`);
    const next = await reply.json();
    [state, received, failure] = [next, began, ""];
    show();
  } catch (error) {
    failure = error instanceof TypeError || error.name === "TimeoutError" ? "the page cannot be reached" : error.message;
  }
  setTimeout(poll, Math.max(50, POLL_MS - (performance.now() - began)));
}

at("history").addEventListener("pointermove", (event) => {
  const point = state && state.status ? pointAt(at("history"), state.status.history, event.clientX) : null;
  at("point").textContent = point ? `${clock(point[0])} · ${point[1]} · ${WORDS[point[4]]} ${number(point[2])}` : "";
});
at("history").addEventListener("pointerleave", () => { at("point").textContent = ""; });
window.addEventListener("resize", () => state && show());
setInterval(tick, 200);
poll();
