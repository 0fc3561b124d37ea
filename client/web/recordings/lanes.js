import { HOP } from "./wave.js";

// Heights in CSS pixels. Every channel has a title, its waveform, its utterances' signs, its shares.
const TITLE = 22;
const WAVE = 72;
const SIGN = 22;
const SHARES = 104;
const APART = 16;
const AXIS = 26;
/** Seconds over which frames are averaged for the eye; alone they flicker. */
const SMOOTH = 0.3;
/** ... and over at least so many columns. */
const CALM = 6;
const FONT = "12px system-ui, sans-serif";

/** The height of a drawing of so many channels. */
export const height = (channels) => channels * (TITLE + WAVE + SIGN + SHARES + APART) - APART + AXIS;

/**
 * Draw a recording from `scene.from` to `scene.to` seconds into `width` pixels.
 *
 * `scene.channels` are `{title, peaks, utterances, frames}`: peaks as wave.js makes them or null,
 * utterances `{start, end, top, shares, words}`, frames `{start, hop, posteriors}` or null. `mode`
 * is "utterances", "stacked" or "lines"; `colours` has text, soft, line, track and every label.
 */
export function paint(context, width, scene) {
  const { from, to, channels } = scene;
  const x = (seconds) => ((seconds - from) / (to - from)) * width;
  context.font = FONT;
  context.textBaseline = "middle";
  let y = 0;
  for (const channel of channels) {
    context.fillStyle = scene.colours.text;
    context.fillText(channel.title, 2, y + TITLE / 2, width);
    y += TITLE;
    wave(context, width, x, y, channel, scene);
    y += WAVE;
    signs(context, width, x, y, channel, scene);
    y += SIGN;
    context.fillStyle = scene.colours.track;
    context.fillRect(0, y, width, SHARES);
    if (!channel.frames || scene.mode === "utterances") blocks(context, x, y, channel, scene);
    else frames(context, width, x, y, channel.frames, scene);
    y += SHARES + APART;
  }
  axis(context, width, x, y - APART, scene);
}

function wave(context, width, x, y, { peaks, utterances }, { from, to, colours }) {
  const middle = y + WAVE / 2;
  context.fillStyle = colours.line;
  context.fillRect(0, middle, width, 1);
  if (!peaks) return;
  const perPixel = (to - from) / width / HOP;
  const first = from / HOP;
  const colour = byTime(utterances);
  for (let pixel = 0; pixel < width; pixel += 1) {
    const begin = Math.floor(first + pixel * perPixel);
    const end = Math.max(begin + 1, Math.floor(first + (pixel + 1) * perPixel));
    let most = 0;
    for (let n = begin; n < end && n < peaks.length; n += 1) most = Math.max(most, peaks[n]);
    const tall = Math.max(1, (most / 255) * WAVE * 0.94);
    context.fillStyle = colours[colour((begin + end) * 0.5 * HOP)] ?? colours.soft;
    context.fillRect(pixel, middle - tall / 2, 1, tall);
  }
}

/** The top label at a time; asked in ascending order, so that one walk along is enough. */
function byTime(utterances) {
  let at = 0;
  return (seconds) => {
    while (at < utterances.length && utterances[at].end < seconds) at += 1;
    const here = utterances[at];
    return here && here.start <= seconds ? here.top : null;
  };
}

function signs(context, width, x, y, { utterances }, { from, to, colours, sign, name }) {
  for (const { start, end, top } of utterances) {
    if (end < from || start > to) continue;
    const left = Math.max(0, x(start));
    const room = Math.min(width, x(end)) - left;
    context.fillStyle = colours[top] ?? colours.soft;
    context.fillRect(left, y + SIGN - 3, Math.max(1.5, room - 1), 3);
    const long = top ? `${sign(top)} ${name(top)}` : "–";
    const short = top ? sign(top) : "–";
    const fits = [long, short].find((text) => context.measureText(text).width < room - 2);
    if (!fits) continue;
    context.fillStyle = colours.text;
    context.fillText(fits, left + 1, y + SIGN / 2 - 2);
  }
}

function blocks(context, x, y, { utterances }, { from, to, labels, colours }) {
  for (const { start, end, shares } of utterances) {
    if (end < from || start > to) continue;
    let below = y + SHARES;
    for (const label of labels) {
      const tall = (shares[label] ?? 0) * SHARES;
      below -= tall;
      context.fillStyle = colours[label] ?? colours.unknown;
      context.fillRect(x(start), below, Math.max(1, x(end) - x(start) - 1), tall);
    }
  }
}

function frames(context, width, x, y, { start, hop, posteriors, order }, scene) {
  const { from, to, labels, colours, mode } = scene;
  const columns = [];
  // Two frames at least, or a column may fall between them.
  const wide = Math.max((to - from) / width, 2 * hop);
  const around = Math.max(wide * CALM, SMOOTH) / 2;
  const mean = (begin, end) => {
    const sums = new Float32Array(labels.length);
    const first = lower(start, begin);
    let at = first;
    for (; at < start.length && start[at] < end; at += 1) {
      labels.forEach((_, index) => (sums[index] += posteriors[at][order[index]] ?? 0));
    }
    return sums.map((sum) => sum / (at - first));
  };
  let n = lower(start, from);
  for (let time = from; time < to; time += wide) {
    const own = n;
    while (n < start.length && start[n] < time + wide) n += 1;
    columns.push(own < n ? mean(time + wide / 2 - around, time + wide / 2 + around) : null);
  }
  const step = (wide / (to - from)) * width;
  labels.forEach((label, index) => {
    context.fillStyle = context.strokeStyle = colours[label] ?? colours.unknown;
    if (mode === "lines") line(context, columns, step, y, index);
    else band(context, columns, step, y, index);
  });
}

function band(context, columns, step, y, index) {
  columns.forEach((shares, column) => {
    if (!shares) return;
    let base = 0;
    for (let below = 0; below < index; below += 1) base += shares[below];
    const top = y + (1 - base - shares[index]) * SHARES;
    // On whole pixels, or hairs of the ground shine through between columns.
    const left = Math.round(column * step);
    context.fillRect(left, top, Math.round((column + 1) * step) - left, shares[index] * SHARES);
  });
}

function line(context, columns, step, y, index) {
  context.lineWidth = 1.6;
  context.beginPath();
  let open = false;
  columns.forEach((shares, column) => {
    if (shares) {
      const at = [(column + 0.5) * step, y + (1 - shares[index]) * SHARES];
      if (open) context.lineTo(...at);
      else context.moveTo(...at);
    }
    open = shares !== null;
  });
  context.stroke();
}

/** The first place in ascending `list` that is at least `value`. */
export function lower(list, value) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function axis(context, width, x, y, { from, to, colours }) {
  const step = STEPS.find((seconds) => ((to - from) / seconds) * 70 < width) ?? STEPS.at(-1);
  context.fillStyle = colours.soft;
  let written = -Infinity;
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    const at = Math.round(x(tick));
    context.fillRect(at, y, 1, 6);
    const text = moment(tick, step < 1);
    const wide = context.measureText(text).width;
    // The last is pushed in from the edge, and would stand on the one before it.
    const left = Math.min(at + 4, width - wide);
    if (left < written + 4) continue;
    context.fillText(text, left, y + 14);
    written = left + wide;
  }
}

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];

/** Seconds as 1:02 or 1:02.5, with hours where there are any. */
export function moment(seconds, tenths = true) {
  const tens = tenths ? Math.round(seconds * 10) : Math.round(seconds) * 10;
  const [whole, rest] = [Math.floor(tens / 10), tens % 10];
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return `${h ? `${h}:${two(m)}` : m}:${two(s)}${tenths ? `.${rest}` : ""}`;
}
