/* The three live figures of the site, in plain JavaScript: a descent, XOR, and a digit. The functions that compute
   are kept apart from those that draw, and tests hold them against Python. */
"use strict";

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const sum = (values) => values.reduce((a, b) => a + b, 0);

/* ---- gradient descent on one neuron, t = w u + b, with standardized input u ---- */

/* Return the path [[w, b, loss], ...] of gradient descent on the mean squared error, start included. */
function descend(u, t, w, b, rate, epochs) {
  const path = [], n = u.length;
  for (let epoch = 0; epoch <= epochs; epoch++) {
    const error = u.map((x, i) => w * x + b - t[i]);
    path.push([w, b, sum(error.map((e) => e * e)) / n]);
    w -= rate * 2 * sum(error.map((e, i) => e * u[i])) / n;
    b -= rate * 2 * sum(error) / n;
  }
  return path;
}

/* ---- a network for XOR: 2 inputs, hidden sigmoid units, a sigmoid output, and maybe a bypass ---- */

const INPUTS = [[0, 0], [0, 1], [1, 0], [1, 1]], TARGETS = [0, 1, 1, 0];

/* Return {a, y}: the hidden activations and the output of `net` at the input x. */
function forward(net, x) {
  const a = net.W.map((row, j) => sigmoid(row[0] * x[0] + row[1] * x[1] + net.b[j]));
  const bypass = net.bypass ? net.u[0] * x[0] + net.u[1] * x[1] : 0;
  return { a, y: sigmoid(sum(a.map((h, j) => h * net.v[j])) + bypass + net.c) };
}

/* Change `net` by one step of gradient descent on the mean squared error of the four cases; return that error. */
function trainStep(net, rate) {
  const step = { W: net.W.map(() => [0, 0]), b: net.b.map(() => 0), v: net.v.map(() => 0), u: [0, 0], c: 0 };
  let loss = 0;
  INPUTS.forEach((x, i) => {
    const { a, y } = forward(net, x), error = y - TARGETS[i];
    loss += error * error / 4;
    const delta = 2 * error * y * (1 - y) / 4;
    a.forEach((h, j) => {
      const hidden = delta * net.v[j] * h * (1 - h);
      step.v[j] += delta * h;
      step.b[j] += hidden;
      x.forEach((value, k) => { step.W[j][k] += hidden * value; });
    });
    x.forEach((value, k) => { step.u[k] += delta * value; });
    step.c += delta;
  });
  net.W.forEach((row, j) => row.forEach((_, k) => { row[k] -= rate * step.W[j][k]; }));
  net.b.forEach((_, j) => { net.b[j] -= rate * step.b[j]; net.v[j] -= rate * step.v[j]; });
  if (net.bypass) net.u.forEach((_, k) => { net.u[k] -= rate * step.u[k]; });
  net.c -= rate * step.c;
  return loss;
}

/* Return a net with `units` hidden units and weights drawn evenly from -1 to 1. */
function newNet(units, bypass) {
  const draw = () => 2 * Math.random() - 1, many = (make) => Array.from({ length: units }, make);
  return { W: many(() => [draw(), draw()]), b: many(draw), v: many(draw), u: [draw(), draw()], c: draw(), bypass };
}

/* ---- a small convolutional network for digits ---- */

/* Return the ReLU of the valid convolution of `maps` (channels x side x side, flat) after max pooling 2 x 2. */
function convolveAndPool(maps, side, layer) {
  const { weight, bias, channels, kernel } = layer, out = side - kernel + 1, half = out / 2;
  const result = new Float64Array(bias.length * half * half);
  for (let o = 0; o < bias.length; o++) {
    for (let r = 0; r < out; r++) for (let c = 0; c < out; c++) {
      let z = bias[o];
      for (let i = 0; i < channels; i++) for (let p = 0; p < kernel; p++) for (let q = 0; q < kernel; q++) {
        z += weight[((o * channels + i) * kernel + p) * kernel + q] * maps[(i * side + r + p) * side + c + q];
      }
      const place = (o * half + (r >> 1)) * half + (c >> 1);
      result[place] = Math.max(result[place], z);
    }
  }
  return [result, half];
}

/* Return the ten probabilities for an image of 28 x 28 values from 0 to 1, row by row. */
function classify(image, network) {
  let maps = image, side = 28;
  for (const layer of network.convolutions) [maps, side] = convolveAndPool(maps, side, layer);
  const { weight, bias } = network.dense, n = maps.length;
  const scores = bias.map((b, k) => { let z = b; for (let i = 0; i < n; i++) z += weight[k * n + i] * maps[i]; return z; });
  const top = Math.max(...scores), powers = scores.map((z) => Math.exp(z - top)), total = sum(powers);
  return powers.map((p) => p / total);
}

/* Return the ink (side x side, 0 to 255) as MNIST prepares digits, 28 x 28 values from 0 to 1, or null without ink:
   the ink's box is scaled to fit 20 x 20, and its center of mass is put at the middle (LeCun et al. 1998). */
function centerLikeMnist(ink, side) {
  let top = side, bottom = -1, left = side, right = -1;
  ink.forEach((value, i) => {
    if (value > 0) {
      const r = Math.floor(i / side), c = i % side;
      top = Math.min(top, r); bottom = Math.max(bottom, r); left = Math.min(left, c); right = Math.max(right, c);
    }
  });
  if (bottom < 0) return null;
  const height = bottom - top + 1, width = right - left + 1, scale = 20 / Math.max(height, width);
  const h = Math.max(1, Math.round(scale * height)), w = Math.max(1, Math.round(scale * width));
  const small = Array.from({ length: h }, (_, r) => Array.from({ length: w }, (_, c) => {
    let total = 0, area = 0;  // the mean over the box of the drawing that this pixel covers
    const [r0, r1, c0, c1] = [r * height / h, (r + 1) * height / h, c * width / w, (c + 1) * width / w];
    for (let p = Math.floor(r0); p < r1; p++) for (let q = Math.floor(c0); q < c1; q++) {
      const part = (Math.min(p + 1, r1) - Math.max(p, r0)) * (Math.min(q + 1, c1) - Math.max(q, c0));
      total += part * ink[(top + p) * side + left + q]; area += part;
    }
    return total / area;
  }));
  let mass = 0, row = 0, column = 0;
  small.forEach((line, r) => line.forEach((value, c) => { mass += value; row += r * value; column += c * value; }));
  const image = new Float64Array(784), down = 14 - Math.round(row / mass), across = 14 - Math.round(column / mass);
  small.forEach((line, r) => line.forEach((value, c) => {
    const [y, x] = [r + down, c + across];
    if (y >= 0 && y < 28 && x >= 0 && x < 28) image[28 * y + x] = value / 255;
  }));
  return image;
}

/* ---- what the reader sees ---- */

/* Return a new element with properties, appended to `parent`. */
function add(parent, tag, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

/* Return an <input type=range> or <select> with a label, appended to `parent`. */
function control(parent, text, tag, properties) {
  const label = add(parent, "label", { textContent: text });
  return add(label, tag, properties);
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--pst-color-${name}`).trim() || "#666";

/* Draw a curve of [x, y] pairs into the box (x0, y0, width, height) of `pen`, scaled by the ranges. */
function curve(pen, points, box, xRange, yRange, style) {
  const [x0, y0, width, height] = box, at = (v, [low, high]) => (v - low) / (high - low);
  pen.strokeStyle = style; pen.lineWidth = 2; pen.beginPath();
  points.forEach(([x, y], i) => {
    const place = [x0 + width * at(x, xRange), y0 + height * (1 - Math.min(1.05, Math.max(-0.05, at(y, yRange))))];
    i ? pen.lineTo(...place) : pen.moveTo(...place);
  });
  pen.stroke();
}

function liveDescent(parent) {
  const celsius = Array.from({ length: 101 }, (_, i) => i), t = celsius.map((c) => 1.8 * c + 32);
  const mean = 50, std = Math.sqrt(sum(celsius.map((c) => (c - mean) ** 2)) / 101);
  const u = celsius.map((c) => (c - mean) / std);
  const controls = add(parent, "div");
  const rate = control(controls, "learning rate", "input", { type: "range", min: -3, max: 0.1, step: 0.01, value: -1 });
  const epochs = control(controls, "epochs", "input", { type: "range", min: 1, max: 100, step: 1, value: 10 });
  const canvas = add(parent, "canvas", { width: 640, height: 240 }), text = add(parent, "output");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Left the line of the neuron over the data, right the loss over the epochs");
  const draw = () => {
    const lr = 10 ** Number(rate.value), path = descend(u, t, 0, 0, lr, Number(epochs.value));
    const [w, b, loss] = path[path.length - 1], pen = canvas.getContext("2d");
    pen.clearRect(0, 0, 640, 240);
    pen.font = "13px sans-serif"; pen.fillStyle = color("text-base"); pen.strokeStyle = color("text-muted");
    pen.lineWidth = 1; pen.strokeRect(30, 24, 270, 190); pen.strokeRect(350, 24, 270, 190);
    pen.fillText("°F over °C: data (gray) and neuron", 32, 16); pen.fillText("loss (log scale) over epochs", 352, 16);
    pen.fillText("0", 30, 230); pen.fillText("100", 280, 230); pen.fillText("0", 350, 230);
    pen.fillText(String(epochs.value), 600, 230);
    curve(pen, [[0, 32], [100, 212]], [30, 24, 270, 190], [0, 100], [-100, 300], "#999999");
    curve(pen, [0, 100].map((c) => [c, w * (c - mean) / std + b]), [30, 24, 270, 190], [0, 100], [-100, 300], "#0173b2");
    const logs = path.map(([, , l], i) => [i, Math.log10(Math.max(l, 1e-12))]);
    curve(pen, logs, [350, 24, 270, 190], [0, Number(epochs.value)], [-12, 12], "#c47500");
    const raw = [w / std, b - w * mean / std].map((v) => v.toPrecision(4));
    const verdict = loss > path[0][2] ? "explodes" : "falls";
    text.textContent = `learning rate ${lr.toPrecision(3)}: w = ${raw[0]}, b = ${raw[1]}; the loss ${verdict}: ${loss.toPrecision(4)} °F²`;
  };
  rate.oninput = epochs.oninput = draw;
  draw();
}

function liveXor(parent) {
  const controls = add(parent, "div");
  const units = control(controls, "hidden units", "select", {});
  [1, 2, 4].forEach((k) => add(units, "option", { value: k, textContent: k, selected: k === 2 }));
  const bypass = control(controls, "bypass", "input", { type: "checkbox" });
  const rate = control(controls, "learning rate", "select", {});
  [0.5, 2, 5].forEach((r) => add(rate, "option", { value: r, textContent: r, selected: r === 2 }));
  const train = add(controls, "button", { type: "button", textContent: "Train" });
  const fresh = add(controls, "button", { type: "button", textContent: "New start" });
  const row = add(parent, "div", { className: "side" });
  const plane = add(row, "canvas", { width: 240, height: 240 }), losses = add(row, "canvas", { width: 300, height: 240 });
  plane.setAttribute("role", "img");
  plane.setAttribute("aria-label", "The output over the two inputs, dark for 0 and light for 1, with the four cases");
  losses.setAttribute("role", "img");
  losses.setAttribute("aria-label", "The loss over the epochs");
  const text = add(parent, "output");
  let net, history, running = false;
  const draw = () => {
    const pen = plane.getContext("2d"), side = 40, cell = 240 / side;
    for (let r = 0; r < side; r++) for (let c = 0; c < side; c++) {
      const y = forward(net, [1.6 * (c + 0.5) / side - 0.3, 1.3 - 1.6 * (r + 0.5) / side]).y;
      pen.fillStyle = `rgb(${Math.round(20 + 225 * y)}, ${Math.round(60 + 160 * y)}, ${Math.round(130 + 20 * y)})`;
      pen.fillRect(c * cell, r * cell, cell + 1, cell + 1);
    }
    INPUTS.forEach(([a, b], i) => {
      pen.beginPath(); pen.arc((a + 0.3) / 1.6 * 240, (1.3 - b) / 1.6 * 240, 9, 0, 7);
      pen.fillStyle = TARGETS[i] ? "#ffffff" : "#000000"; pen.fill();
      pen.strokeStyle = TARGETS[i] ? "#000000" : "#ffffff"; pen.lineWidth = 2; pen.stroke();
    });
    const graph = losses.getContext("2d");
    graph.clearRect(0, 0, 300, 240);
    graph.font = "13px sans-serif"; graph.fillStyle = color("text-base"); graph.strokeStyle = color("text-muted");
    graph.strokeRect(30, 24, 260, 190);
    graph.fillText("loss over epochs", 32, 16); graph.fillText("0.3", 4, 32); graph.fillText("0", 16, 214);
    const last = Math.max(1, history.length - 1);
    graph.fillText(String(last), 250, 230);
    if (history.length > 1) curve(graph, history.map((l, i) => [i, l]), [30, 24, 260, 190], [0, last], [0, 0.3], "#c47500");
    const right = INPUTS.filter((x, i) => (forward(net, x).y > 0.5) === (TARGETS[i] === 1)).length;
    const loss = history.length ? history[history.length - 1].toFixed(4) : "not yet trained";
    text.textContent = `epoch ${history.length}, loss ${loss}, ${right} of 4 cases right`;
  };
  const tick = () => {
    for (let i = 0; i < 100; i++) history.push(trainStep(net, Number(rate.value)));
    draw();
    if (history.length >= 20000 || history[history.length - 1] < 0.001) running = false;
    running ? requestAnimationFrame(tick) : (train.textContent = "Train");
  };
  const restart = () => { net = newNet(Number(units.value), bypass.checked); history = []; draw(); };
  train.onclick = () => {
    running = !running;
    train.textContent = running ? "Stop" : "Train";
    if (running) requestAnimationFrame(tick);
  };
  fresh.onclick = units.onchange = bypass.onchange = restart;
  restart();
}

function liveDigits(parent) {
  const row = add(parent, "div", { className: "side" }), left = add(row, "div");
  const canvas = add(left, "canvas", { width: 140, height: 140, className: "draw", tabIndex: 0 });
  canvas.style.width = "280px";
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Draw a digit here; with the keyboard, arrow keys move the pen, space lowers and lifts it");
  const clear = add(add(left, "div"), "button", { type: "button", textContent: "Clear" });
  const bars = add(row, "div", { className: "bars" });
  const text = add(parent, "output", { textContent: "Draw a digit." });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rows = Array.from({ length: 10 }, (_, k) => {
    add(bars, "span", { textContent: k });
    const bar = add(bars, "div");
    bar.style.width = "0";
    return [bar, add(bars, "span", { textContent: "" })];
  });
  const update = () => {
    const alpha = pen.getImageData(0, 0, 140, 140).data.filter((_, i) => i % 4 === 3);
    const image = centerLikeMnist(Array.from(alpha), 140);
    const p = image ? classify(image, DIGITS) : Array(10).fill(0);
    rows.forEach(([bar, label], k) => {
      bar.style.width = `${100 * p[k]}%`;
      label.textContent = image ? `${(100 * p[k]).toFixed(1)} %` : "";
    });
    text.textContent = image ? `The network reads a ${p.indexOf(Math.max(...p))}.` : "Draw a digit.";
  };
  const at = (event) => [event.offsetX * 140 / canvas.clientWidth, event.offsetY * 140 / canvas.clientHeight];
  const start = (place) => {
    Object.assign(pen, { lineWidth: 12, lineCap: "round", lineJoin: "round", strokeStyle: "white" });
    pen.beginPath(); pen.moveTo(...place); pen.lineTo(...place); pen.stroke();
  };
  canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); start(at(event)); };
  canvas.onpointermove = (event) => { if (event.buttons) { pen.lineTo(...at(event)); pen.stroke(); } };
  canvas.onpointerup = update;
  let place = [70, 40], down = false;
  canvas.onkeydown = (event) => {
    const moves = { ArrowUp: [0, -5], ArrowDown: [0, 5], ArrowLeft: [-5, 0], ArrowRight: [5, 0] };
    if (event.key === " ") { down = !down; if (down) start(place); }
    else if (moves[event.key]) {
      place = place.map((v, i) => Math.min(130, Math.max(10, v + moves[event.key][i])));
      if (down) { pen.lineTo(...place); pen.stroke(); }
    } else return;
    event.preventDefault();
    update();
  };
  clear.onclick = () => { pen.clearRect(0, 0, 140, 140); update(); };
}

/* Give the answer fields of quizzes a name for screen readers; quizzes build themselves while the page loads. */
const nameFields = () => document.querySelectorAll(".Input-text:not([aria-label])").forEach((field) => {
  field.setAttribute("aria-label", "your answer, a number");
});
new MutationObserver(nameFields).observe(document.documentElement, { childList: true, subtree: true });

const LIVE = { descent: liveDescent, xor: liveXor, digits: liveDigits };
/* Let formulas that are wider than their line scroll by themselves, and let the keyboard reach what scrolls. */
const fitBoxes = () => {
  for (const math of document.querySelectorAll("article :is(p, li, h2, h3, td) > math")) {
    if (math.getBoundingClientRect().width > math.parentElement.clientWidth) {
      const box = Object.assign(document.createElement("span"), { className: "wide-math" });
      math.replaceWith(box);
      box.append(math);
    }
  }
  for (const box of document.querySelectorAll("div.math, .wide-math, article table, article pre")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
};

const begin = () => {
  nameFields();
  document.querySelectorAll(".live").forEach((place) => LIVE[place.dataset.live](place));
  fitBoxes();
  addEventListener("resize", fitBoxes);
};
document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();
