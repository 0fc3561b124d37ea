import { timestamp } from "./format.js";

/** Seconds per peak of a waveform. */
export const PEAK_S = 0.01;

// Heights in CSS pixels. A channel has a title, its waveform, labels of utterances, and shares.
const TITLE = 22;
const WAVEFORM = 72;
const LABELS = 22;
const SHARES = 104;
const GAP = 16;
const AXIS = 26;
/** Height of the lines of alerts below the title, and their colours. */
const ALERTS = 4;
const ALERT_COLOURS = { info: "accent", warning: "warn", critical: "danger" };
/** Seconds over which frames are averaged, because single frames flicker. */
const SMOOTHING_S = 0.3;
/** Smallest number of columns over which frames are averaged. */
const SMOOTHING_COLUMNS = 6;
const FONT = "12px system-ui, sans-serif";
/** Distances of axis labels in seconds. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
const STEP_PIXELS = 70;

/** Return the height of a drawing with this number of channels, with or without their waveforms. */
export const height = (channels, waveform = true) =>
  channels * (TITLE + (waveform ? WAVEFORM : 0) + LABELS + SHARES + GAP) - GAP + AXIS;

/**
 * Draw a recording from `scene.from` to `scene.to` seconds into `width` pixels.
 *
 * `scene.channels` are `{title, peaks, utterances, frames, alerts}`: peaks of waveform.js or null, utterances
 * `{start, end, top, shares, text}`, alerts `{start, end, severity}`, frames `{start, hop, posteriors, order}` or null. `mode` is
 * "utterances", "stacked" or "lines". Without `waveform` there is no room for one. `colours` has text, soft, line, track and every label; `symbol`
 * and `name` are functions of a label.
 */
export function draw(context, width, scene) {
  const { from, to, channels } = scene;
  const x = (seconds) => ((seconds - from) / (to - from)) * width;
  context.font = FONT;
  context.textBaseline = "middle";
  let y = 0;
  for (const channel of channels) {
    context.fillStyle = scene.colours.text;
    context.fillText(channel.title, 2, y + (TITLE - ALERTS) / 2, width);
    y += TITLE;
    drawAlerts(context, x, y - ALERTS, channel, scene);
    if (scene.waveform ?? true) {
      drawWaveform(context, width, y, channel, scene);
      y += WAVEFORM;
    }
    drawLabels(context, width, x, y, channel, scene);
    y += LABELS;
    context.fillStyle = scene.colours.track;
    context.fillRect(0, y, width, SHARES);
    if (!channel.frames || scene.mode === "utterances") drawBlocks(context, x, y, channel, scene);
    else drawFrames(context, width, y, channel.frames, scene);
    y += SHARES + GAP;
  }
  drawAxis(context, width, x, y - GAP, scene);
}

function drawAlerts(context, x, y, { alerts = [] }, { from, to, colours }) {
  for (const { start, end, severity } of alerts) {
    if (end < from || start > to) continue;
    context.fillStyle = colours[ALERT_COLOURS[severity]] ?? colours.warn;
    context.fillRect(x(start), y, Math.max(2, x(end) - x(start)), ALERTS - 1);
  }
}

function drawWaveform(context, width, y, { peaks, utterances }, { from, to, colours }) {
  const middle = y + WAVEFORM / 2;
  context.fillStyle = colours.line;
  context.fillRect(0, middle, width, 1);
  if (!peaks) return;
  const perPixel = (to - from) / width / PEAK_S;
  const first = from / PEAK_S;
  const labelAt = labelFinder(utterances);
  for (let pixel = 0; pixel < width; pixel += 1) {
    const begin = Math.floor(first + pixel * perPixel);
    const end = Math.max(begin + 1, Math.floor(first + (pixel + 1) * perPixel));
    let peak = 0;
    for (let n = begin; n < end && n < peaks.length; n += 1) peak = Math.max(peak, peaks[n]);
    const tall = Math.max(1, (peak / 255) * WAVEFORM * 0.94);
    context.fillStyle = colours[labelAt((begin + end) * 0.5 * PEAK_S)] ?? colours.soft;
    context.fillRect(pixel, middle - tall / 2, 1, tall);
  }
}

/** Return a function from times to top labels; the times must ascend. */
function labelFinder(utterances) {
  let at = 0;
  return (seconds) => {
    while (at < utterances.length && utterances[at].end < seconds) at += 1;
    const utterance = utterances[at];
    return utterance && utterance.start <= seconds ? utterance.top : null;
  };
}

function drawLabels(context, width, x, y, { utterances }, { from, to, colours, symbol, name }) {
  for (const { start, end, top } of utterances) {
    if (end < from || start > to) continue;
    const left = Math.max(0, x(start));
    const space = Math.min(width, x(end)) - left;
    context.fillStyle = colours[top] ?? colours.soft;
    context.fillRect(left, y + LABELS - 3, Math.max(1.5, space - 1), 3);
    const long = top ? `${symbol(top)} ${name(top)}` : "–";
    const short = top ? symbol(top) : "–";
    const text = [long, short].find((candidate) => context.measureText(candidate).width < space - 2);
    if (!text) continue;
    context.fillStyle = colours.text;
    context.fillText(text, left + 1, y + LABELS / 2 - 2);
  }
}

function drawBlocks(context, x, y, { utterances }, { from, to, labels, colours }) {
  for (const { start, end, shares } of utterances) {
    if (end < from || start > to) continue;
    let top = y + SHARES;
    for (const label of labels) {
      const tall = (shares[label] ?? 0) * SHARES;
      top -= tall;
      context.fillStyle = colours[label] ?? colours.unknown;
      context.fillRect(x(start), top, Math.max(1, x(end) - x(start) - 1), tall);
    }
  }
}

function drawFrames(context, width, y, { start, hop, posteriors, order }, scene) {
  const { from, to, labels, colours, mode } = scene;
  const columns = [];
  // At least two frames wide, so that every column contains a frame.
  const wide = Math.max((to - from) / width, 2 * hop);
  const radius = Math.max(wide * SMOOTHING_COLUMNS, SMOOTHING_S) / 2;
  const mean = (begin, end) => {
    const sums = new Float32Array(labels.length);
    const first = lowerBound(start, begin);
    let at = first;
    for (; at < start.length && start[at] < end; at += 1) {
      labels.forEach((_, index) => (sums[index] += posteriors[at][order[index]] ?? 0));
    }
    return sums.map((sum) => sum / (at - first));
  };
  let n = lowerBound(start, from);
  for (let time = from; time < to; time += wide) {
    const first = n;
    while (n < start.length && start[n] < time + wide) n += 1;
    columns.push(first < n ? mean(time + wide / 2 - radius, time + wide / 2 + radius) : null);
  }
  const step = (wide / (to - from)) * width;
  labels.forEach((label, index) => {
    context.fillStyle = context.strokeStyle = colours[label] ?? colours.unknown;
    if (mode === "lines") drawLine(context, columns, step, y, index);
    else drawArea(context, columns, step, y, index);
  });
}

function drawArea(context, columns, step, y, index) {
  columns.forEach((shares, column) => {
    if (!shares) return;
    let base = 0;
    for (let below = 0; below < index; below += 1) base += shares[below];
    const top = y + (1 - base - shares[index]) * SHARES;
    // On whole pixels, or the background is visible between columns.
    const left = Math.round(column * step);
    context.fillRect(left, top, Math.round((column + 1) * step) - left, shares[index] * SHARES);
  });
}

function drawLine(context, columns, step, y, index) {
  context.lineWidth = 1.6;
  context.beginPath();
  let connected = false;
  columns.forEach((shares, column) => {
    if (shares) {
      const point = [(column + 0.5) * step, y + (1 - shares[index]) * SHARES];
      if (connected) context.lineTo(...point);
      else context.moveTo(...point);
    }
    connected = shares !== null;
  });
  context.stroke();
}

/** Return the index of the first number in the ascending `list` that is at least `value`. */
export function lowerBound(list, value) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function drawAxis(context, width, x, y, { from, to, colours }) {
  const step = STEPS.find((seconds) => ((to - from) / seconds) * STEP_PIXELS < width) ?? STEPS.at(-1);
  context.fillStyle = colours.soft;
  let end = -Infinity;
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    const at = Math.round(x(tick));
    context.fillRect(at, y, 1, 6);
    const text = timestamp(tick, step < 1);
    const wide = context.measureText(text).width;
    // The last label is moved in from the edge; skip it if it would overlap the one before.
    const left = Math.min(at + 4, width - wide);
    if (left < end + 4) continue;
    context.fillText(text, left, y + 14);
    end = left + wide;
  }
}
