import { t, tag } from "../../language.js";
import { drawEmoji } from "../../parts/emoji.js";
import { percent, timestamp } from "../../parts/format.js";
import { labelName, labelSymbol, sortLabels } from "../../parts/labels.js";
import { palette } from "../../parts/palette.js";
import { channelTitle } from "../messages.js";

// Sizes in CSS pixels; the image has `RATIO` times as many.
const WIDTH = 1280;
const EDGE = 32;
const TITLE = 46;
const VERDICT = 84;
const FOOTER = 76;
const RATIO = 2;

/** Return a PNG Blob of a result: title, verdicts, timeline, legend and origin. */
export function exportPng(job, timeline) {
  const { result } = job;
  const several = result.channels.length > 1;
  const height = EDGE + TITLE + result.channels.length * VERDICT + timeline.height + FOOTER + EDGE;
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH * RATIO;
  canvas.height = height * RATIO;
  const context = canvas.getContext("2d");
  const colours = palette();
  context.scale(RATIO, RATIO);
  context.fillStyle = colours.card;
  context.fillRect(0, 0, WIDTH, height);
  context.textBaseline = "middle";
  const write = (text, x, y, font, colour = colours.text) => {
    context.font = `${font} system-ui, sans-serif`;
    context.fillStyle = colour;
    context.fillText(text, x, y, WIDTH - x - EDGE);
  };
  write(job.name, EDGE, EDGE + 10, "600 22px");
  let y = EDGE + TITLE;
  for (const channel of result.channels) {
    const label = channel.top?.label;
    drawEmoji(context, label, EDGE, y, 64, colours[label] ?? colours.soft);
    const top = label && `${labelSymbol(label)} ${labelName(label)} ${percent(channel.top.score)}`;
    write(top ?? t("recordings.no_speech"), EDGE + 76, y + 20, "650 26px");
    const title = several ? `${channelTitle(channel, several)} · ` : "";
    const basis = t("recordings.based_on", { s: channel.speech_s.toFixed(1), n: channel.utterances.length });
    write(`${title}${basis}`, EDGE + 76, y + 46, "15px", colours.soft);
    y += VERDICT;
  }
  context.save();
  context.translate(EDGE, y);
  timeline.drawOn(context, WIDTH - 2 * EDGE);
  context.restore();
  y += timeline.height + 24;
  let x = EDGE;
  for (const label of sortLabels(result.model.labels)) {
    context.fillStyle = colours[label] ?? colours.unknown;
    context.fillRect(x, y - 7, 14, 14);
    const text = `${labelSymbol(label)} ${labelName(label)}`;
    write(text, x + 20, y, "14px");
    x += 44 + context.measureText(text).width;
  }
  const origin = [
    `Emotide · ${result.model.id}`,
    timestamp(result.file.duration_s),
    new Date(result.created).toLocaleString(tag()),
    t("shell.notice"),
  ];
  write(origin.join(" · "), EDGE, y + 32, "13px", colours.soft);
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("the canvas is too large for a PNG")));
    canvas.toBlob(done, "image/png");
  });
}
