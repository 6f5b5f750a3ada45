"use strict";
// The score history: dots by order of arrival on one fixed scale, the threshold as a line.

const COLUMN = { time: 0, source: 1, score: 2, threshold: 3, status: 4 };

function chartTop(points) {
  const highest = Math.max(0, ...points.map((p) => p[COLUMN.threshold] ?? 0));
  return Math.max(2, 1.6 * highest);
}

function drawHistory(canvas, points, colour) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const top = chartTop(points), frame = { left: 34, right: width - 8, top: 10, bottom: height - 18 };
  const y = (v) => frame.bottom - (frame.bottom - frame.top) * Math.min(Math.max(v / top, 0), 1);
  const x = (i) => frame.right - (points.length - 1 - i) * (frame.right - frame.left - 8) / 499;
  drawAxis(pen, frame, y, top, colour);
  if (!points.length) return;
  drawThreshold(pen, points, x, y, frame, colour("--ink"));
  points.forEach((p, i) => drawPoint(pen, p, x(i), p[COLUMN.score] === null ? frame.bottom : y(p[COLUMN.score]), colour));
  drawTimes(pen, points, x, frame, colour("--soft"));
}

function drawAxis(pen, frame, y, top, colour) {
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.lineWidth = 1;
  const step = top > 6 ? Math.ceil(top / 5) : top > 3 ? 1 : 0.5;
  for (let v = 0; v <= top + 1e-9; v += step) {
    pen.strokeStyle = colour("--line");
    pen.beginPath(); pen.moveTo(frame.left, y(v)); pen.lineTo(frame.right, y(v)); pen.stroke();
    pen.fillStyle = colour("--soft");
    pen.fillText(String(Number(v.toFixed(2))), frame.left - 6, y(v));
  }
}

function drawThreshold(pen, points, x, y, frame, ink) {
  pen.strokeStyle = ink;
  pen.lineWidth = 2;
  pen.setLineDash([8, 5]);
  pen.beginPath();
  let down = false;
  points.forEach((p, i) => {
    const value = p[COLUMN.threshold];
    if (value === null) { down = false; return; }
    const from = i === 0 ? frame.left : x(i - 1);
    if (down) pen.lineTo(from, y(value)); else pen.moveTo(from, y(value));
    pen.lineTo(x(i), y(value));
    down = true;
  });
  pen.stroke();
  pen.setLineDash([]);
}

function drawPoint(pen, point, px, py, colour) {
  const status = point[COLUMN.status];
  pen.fillStyle = pen.strokeStyle = colour("--" + status);
  pen.lineWidth = 2;
  pen.beginPath();
  if (status === "ok") { pen.arc(px, py, 2.2, 0, 7); pen.fill(); return; }
  if (status === "ng") {
    pen.moveTo(px - 3.5, py - 3.5); pen.lineTo(px + 3.5, py + 3.5);
    pen.moveTo(px + 3.5, py - 3.5); pen.lineTo(px - 3.5, py + 3.5);
    pen.stroke();
    return;
  }
  pen.moveTo(px, py - 5); pen.lineTo(px + 4.5, py + 3); pen.lineTo(px - 4.5, py + 3);
  pen.closePath(); pen.fill();
}

function drawTimes(pen, points, x, frame, ink) {
  pen.fillStyle = ink;
  pen.textBaseline = "bottom";
  const first = new Date(points[0][COLUMN.time] * 1000).toLocaleTimeString();
  const last = new Date(points[points.length - 1][COLUMN.time] * 1000).toLocaleTimeString();
  pen.textAlign = "right";
  pen.fillText(last, frame.right, frame.bottom + 18);
  if (frame.right - x(0) < 160) return;
  pen.textAlign = "left";
  pen.fillText(first, Math.max(x(0), frame.left), frame.bottom + 18);
}

function pointAt(canvas, points, clientX) {
  const box = canvas.getBoundingClientRect();
  const step = (canvas.clientWidth - 8 - 34 - 8) / 499;
  const back = Math.round((box.left + canvas.clientWidth - 8 - clientX) / step);
  return points[points.length - 1 - back] ?? null;
}
