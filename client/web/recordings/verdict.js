import { known, t } from "../language.js";
import { Bars } from "../parts/bars.js";
import { element } from "../parts/dom.js";
import { Face } from "../parts/face.js";
import { name, percent, sign, strongest, tone } from "../parts/labels.js";
import { title } from "./sounds.js";

const CLEAR = 0.7;
const MIXED = 0.4;

/** One channel's emotion, large, with every label as a bar; or that it says nothing. */
export function verdict(channel, result, heading) {
  const many = result.channels.length > 1;
  const top = channel.top?.label ?? strongest(channel.scores ?? {});
  const node = element("article", { className: "card verdict" });
  if (many) node.append(element(heading, { className: "whose" }, title(channel, many)));
  if (!top) {
    node.append(silence(many ? "h4" : heading));
    return node;
  }
  const share = channel.scores[top];
  const second = strongest({ ...channel.scores, [top]: -1 });
  node.append(
    element(
      "div",
      { className: "winner" },
      face(top),
      element(
        "div",
        {},
        element(
          many ? "h4" : heading,
          { className: `what tone ${tone(top)}` },
          element("span", { className: "sign", ariaHidden: "true" }, sign(top)),
          ` ${name(top)} `,
          element("span", { className: "share" }, percent(share)),
        ),
        element(
          "p",
          {},
          t(`recordings.sure.${share >= CLEAR ? "clear" : share >= MIXED ? "mixed" : "unsure"}`),
          " ",
          second && channel.scores[second] > 0.005
            ? t("recordings.followed", { label: name(second), share: percent(channel.scores[second]) })
            : "",
        ),
        element("p", { className: "soft" }, t("recordings.rests_on", {
          s: channel.speech_s.toFixed(1),
          n: channel.utterances.length,
        })),
      ),
    ),
    bars(channel.scores),
  );
  const note = known(`recordings.model.${family(result.model.id)}.${top}`, "");
  if (note) node.append(element("p", { className: "note" }, note));
  return node;
}

function face(label) {
  const made = new Face();
  made.show(label);
  return made.node;
}

function bars(shares) {
  const made = new Bars();
  made.show(shares);
  return made.node;
}

function silence(heading) {
  return element(
    "div",
    { className: "winner" },
    face(null),
    element(
      "div",
      {},
      element(heading, { className: "what" }, t("recordings.nothing")),
      element("p", {}, t("recordings.nothing.why")),
      element("p", { className: "soft" }, t("recordings.nothing.do")),
    ),
  );
}

/** What versions of a model have in common: its name without the number. */
const family = (id) => id.replace(/-\d+$/, "");
