import { t } from "../language.js";
import { setText } from "../parts/dom.js";
import { labelName, roleName, topLabel } from "../parts/labels.js";

const PERIOD_MS = 5_000;
const MOST_STREAMS = 3;

/** Announcements of the list for screen readers: short, at most every 5 s, and only changes. */
export class Announcer {
  #next = 0;

  constructor(node) {
    this.node = node;
  }

  update(streams, connected, now) {
    if (now < this.#next) return;
    // A lost connection is announced only if there was one before.
    const text = connected ? describe(streams) : this.node.textContent && t("monitor.disconnected");
    if (text === this.node.textContent) return;
    this.#next = now + PERIOD_MS;
    setText(this.node, text);
  }
}

function describe(streams) {
  if (!streams.length) return t("monitor.no_streams");
  const urgent = streams.filter((stream) => stream.attention.name === "high");
  const sentences = [sentence(t("monitor.count", { n: streams.length }))];
  if (!urgent.length) return sentences[0];
  sentences.push(t("monitor.urgent", { n: urgent.length }));
  for (const stream of urgent.slice(0, MOST_STREAMS)) {
    sentences.push(sentence(`${stream.id}: ${emotions(stream)}`));
  }
  if (urgent.length > MOST_STREAMS) sentences.push(t("monitor.more", { n: urgent.length - MOST_STREAMS }));
  return sentences.join(" ");
}

const sentence = (text) => t("monitor.sentence", { text });

function emotions({ channels }) {
  return [...channels.values()]
    .map(({ role, shares }) => `${roleName(role)} ${shares ? labelName(topLabel(shares)) : t("emotion.none")}`)
    .join(", ");
}
