import { t } from "../language.js";
import { say } from "../parts/dom.js";
import { name, roleName, strongest } from "../parts/labels.js";

const PERIOD = 5_000;
const SPOKEN = 3;

/** What a screen reader is told of the list: seldom, short, and only what changed. */
export class Summary {
  #next = 0;

  constructor(node) {
    this.node = node;
  }

  tell(streams, connected, now) {
    if (now < this.#next) return;
    // Nothing is lost before it was there.
    const text = connected ? describe(streams) : this.node.textContent && t("monitor.lost");
    if (text === this.node.textContent) return;
    this.#next = now + PERIOD;
    say(this.node, text);
  }
}

function describe(streams) {
  if (!streams.length) return t("monitor.nobody");
  const urgent = streams.filter((stream) => stream.attention.name === "high");
  const told = [sentence(t("monitor.count", { n: streams.length }))];
  if (!urgent.length) return told[0];
  told.push(t("monitor.urgent", { n: urgent.length }));
  for (const stream of urgent.slice(0, SPOKEN)) told.push(sentence(`${stream.id}: ${voices(stream)}`));
  if (urgent.length > SPOKEN) told.push(t("monitor.others", { n: urgent.length - SPOKEN }));
  return told.join(" ");
}

const sentence = (text) => t("monitor.sentence", { text });

function voices({ channels }) {
  return [...channels.values()]
    .map(({ role, shares }) => `${roleName(role)} ${shares ? name(strongest(shares)) : t("emotion.none")}`)
    .join(", ");
}
