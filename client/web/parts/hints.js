import { textFor } from "../language.js";
import { element } from "./dom.js";

/** Return a list of the reasons to doubt a score. */
export function hintList(hints) {
  const items = hints.map((hint) => element("li", {}, textFor(`hint.${hint}`, hint)));
  return element("ul", { className: "hints" }, ...items);
}
