import { t, tag } from "../language.js";
import { paintFace } from "../parts/face.js";
import { name, percent, sign } from "../parts/labels.js";
import { palette } from "../parts/palette.js";
import { moment } from "./lanes.js";
import { labelsOf, title } from "./sounds.js";

const WIDTH = 1280;
const EDGE = 32;
const RATIO = 2;
const VERDICT = 84;

/** What the page shows of a recording as a PNG Blob: verdicts, drawing, legend, where it is from. */
export function picture(job, timeline) {
  const { result } = job;
  const many = result.channels.length > 1;
  const verdicts = result.channels.length * VERDICT;
  const height = EDGE + 46 + verdicts + timeline.height + 76 + EDGE;
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH * RATIO;
  canvas.height = height * RATIO;
  const context = canvas.getContext("2d");
  const colours = palette();
  context.scale(RATIO, RATIO);
  context.fillStyle = colours.card;
  context.fillRect(0, 0, WIDTH, height);
  context.textBaseline = "middle";
  const write = (text, x, y, font, colour = colours.text, room = WIDTH - x - EDGE) => {
    context.font = `${font} system-ui, sans-serif`;
    context.fillStyle = colour;
    context.fillText(text, x, y, room);
  };
  write(job.name, EDGE, EDGE + 10, "600 22px");
  let y = EDGE + 46;
  for (const channel of result.channels) {
    const top = channel.top?.label;
    paintFace(context, top, EDGE, y, 64, colours[top] ?? colours.soft);
    const what = top ? `${sign(top)} ${name(top)} ${percent(channel.top.score)}` : t("recordings.nothing");
    write(what, EDGE + 76, y + 20, "650 26px");
    const rest = t("recordings.rests_on", { s: channel.speech_s.toFixed(1), n: channel.utterances.length });
    write(`${many ? `${title(channel, many)} · ` : ""}${rest}`, EDGE + 76, y + 46, "15px", colours.soft);
    y += VERDICT;
  }
  context.save();
  context.translate(EDGE, y);
  timeline.render(context, WIDTH - 2 * EDGE);
  context.restore();
  y += timeline.height + 24;
  let x = EDGE;
  for (const label of labelsOf(result.model)) {
    context.fillStyle = colours[label] ?? colours.unknown;
    context.fillRect(x, y - 7, 14, 14);
    const text = `${sign(label)} ${name(label)}`;
    write(text, x + 20, y, "14px");
    x += 44 + context.measureText(text).width;
  }
  const facts = [
    `Emotide · ${result.model.id}`,
    moment(result.file.duration_s),
    new Date(result.created).toLocaleString(tag()),
    t("shell.notice"),
  ];
  write(facts.join(" · "), EDGE, y + 32, "13px", colours.soft);
  return new Promise((resolve, reject) => {
    const made = (blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large")));
    canvas.toBlob(made, "image/png");
  });
}
