import { t, textFor } from "../../language.js";
import { element } from "../../parts/dom.js";

/** Hints in the order of display, the most serious first; others come last. */
const ORDER = [
  "no_speech", "silent_channel", "truncated", "left_out", "time_jump", "language", "music", "noisy", "clipped", "low_level", "too_short",
  "short_speech", "tone", "high_pitch", "gap", "skipped", "too_long", "low_confidence", "narrowband",
  "one_voice",
];
/** Hints of recordings that have another name than those of utterances. */
const SAME = { too_long_for_one_verdict: "too_long" };

/** Return the name of a hint in two or three words. */
export const hintName = (hint) => textFor(`recordings.hint.${SAME[hint] ?? hint}`, hint);

/** Return a section with every reason to doubt a result and its remedy; hidden if there is none. */
export function caveats({ result, log }) {
  const { hints, channels } = result;
  const utterances = channels.flatMap((channel) => channel.utterances);
  const all = [
    ...hints,
    // The hints of the only utterance apply to the recording.
    ...(utterances.length === 1 ? utterances[0].hints : []),
    ...(channels.some(({ gaps }) => gaps.length) ? ["gap"] : []),
    ...(log.some(({ code }) => code === "channel_skipped") ? ["skipped"] : []),
  ];
  const list = element("ul", { className: "caveats" });
  for (const hint of sorted(all)) {
    list.append(
      element(
        "li",
        {},
        element("strong", {}, `! ${hintName(hint)}`),
        element("p", {}, textFor(`recordings.hint.${hint}.why`, "")),
        element("p", { className: "remedy" }, textFor(`recordings.hint.${hint}.do`, "")),
      ),
    );
  }
  const node = element("section", { className: "card", hidden: !list.children.length });
  node.append(element("h3", {}, t("recordings.caveats")), list);
  return node;
}

/** Return each hint once, in the order of `ORDER`. */
function sorted(hints) {
  const unique = [...new Set(hints.map((hint) => SAME[hint] ?? hint))];
  const rank = (hint) => (ORDER.includes(hint) ? ORDER.indexOf(hint) : ORDER.length);
  return unique.sort((a, b) => rank(a) - rank(b));
}
