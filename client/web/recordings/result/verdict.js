import { t, textFor } from "../../language.js";
import { Bars } from "../../parts/bars.js";
import { element } from "../../parts/dom.js";
import { Emoji } from "../../parts/emoji.js";
import { percent } from "../../parts/format.js";
import { labelClass, labelName, labelSymbol, topLabel } from "../../parts/labels.js";
import { channelTitle } from "../messages.js";

const CLEAR = 0.7;
const MIXED = 0.4;
const LEAST_SHARE = 0.005;

/** Return the verdict on a channel: its top label, how certain it is, and a bar per label. */
export function verdict(channel, result) {
  const several = result.channels.length > 1;
  const heading = several ? "h4" : "h3";
  const top = channel.top?.label ?? topLabel(channel.scores ?? {});
  const node = element("article", { className: "card verdict" });
  if (several) node.append(element("h3", { className: "channel-title" }, channelTitle(channel, several)));
  if (!top) {
    node.append(noSpeech(heading));
    return node;
  }
  const bars = new Bars();
  bars.show(channel.scores);
  node.append(
    headline(
      top,
      element(
        heading,
        { className: `verdict-label tone ${labelClass(top)}` },
        element("span", { className: "symbol", ariaHidden: "true" }, labelSymbol(top)),
        ` ${labelName(top)} `,
        element("span", { className: "share" }, percent(channel.scores[top])),
      ),
      element("p", {}, certainty(channel.scores, top)),
      element("p", { className: "soft" }, t("recordings.based_on", {
        s: channel.speech_s.toFixed(1),
        n: channel.utterances.length,
      })),
    ),
    bars.node,
  );
  const note = textFor(`recordings.model.${family(result.model.id)}.${top}`, "");
  if (note) node.append(element("p", { className: "note" }, note));
  return node;
}

function certainty(scores, top) {
  const level = scores[top] >= CLEAR ? "clear" : scores[top] >= MIXED ? "mixed" : "unsure";
  const second = topLabel({ ...scores, [top]: -1 });
  const text = t(`recordings.certainty.${level}`);
  if (!second || scores[second] <= LEAST_SHARE) return text;
  return `${text} ${t("recordings.second", { label: labelName(second), share: percent(scores[second]) })}`;
}

function noSpeech(heading) {
  return headline(
    null,
    element(heading, { className: "verdict-label" }, t("recordings.no_speech")),
    element("p", {}, t("recordings.no_speech.why")),
    element("p", { className: "soft" }, t("recordings.no_speech.do")),
  );
}

function headline(label, ...content) {
  return element("div", { className: "headline" }, new Emoji(label).node, element("div", {}, ...content));
}

/** Return the name of a model without its version number. */
const family = (id) => id.replace(/-\d+$/, "");
