import { known, t } from "../language.js";
import { element } from "../parts/dom.js";

/** The worst first; one that is not listed comes last. */
const ORDER = [
  "no_speech", "truncated", "language", "music", "noisy", "clipped", "low_level", "too_short",
  "short_speech", "tone", "high_pitch", "gap", "skipped", "too_long", "low_confidence", "narrowband",
];
/** Named differently by an utterance and a recording, and meant alike. */
const SAME = { too_long_for_one_verdict: "too_long" };

/** Hints of a result in the order of their weight, each once. */
export function doubts(hints) {
  const unique = [...new Set(hints.map((hint) => SAME[hint] ?? hint))];
  const weight = (hint) => (ORDER.indexOf(hint) + ORDER.length + 1) % (ORDER.length + 1);
  return unique.sort((a, b) => weight(a) - weight(b));
}

/** A hint in two or three words. */
export const brief = (hint) => known(`recordings.hint.${SAME[hint] ?? hint}`, hint);

/** Why a result is doubtful and what to do about it; nothing if it is not. */
export function advice({ result, log }) {
  const { hints, channels } = result;
  const spoken = channels.flatMap(({ utterances }) => utterances);
  const all = [
    ...hints,
    // Of a recording with one utterance its doubts are the recording's.
    ...(spoken.length === 1 ? spoken[0].hints : []),
    ...(channels.some(({ gaps }) => gaps.length) ? ["gap"] : []),
    ...(log.some(({ code }) => code === "channel_skipped") ? ["skipped"] : []),
  ];
  const list = element("ul", { className: "doubts" });
  for (const hint of doubts(all)) {
    list.append(
      element(
        "li",
        {},
        element("strong", {}, `! ${brief(hint)}`),
        element("p", {}, known(`recordings.hint.${hint}.why`, "")),
        element("p", { className: "do" }, known(`recordings.hint.${hint}.do`, "")),
      ),
    );
  }
  const node = element("section", { className: "card", hidden: !list.children.length });
  node.append(element("h3", {}, t("recordings.doubts")), list);
  return node;
}
