import { known } from "../language.js";
import { element } from "./dom.js";

/** Why to trust a score less, as a list. */
export function hintList(hints) {
  const items = hints.map((hint) => element("li", {}, known(`hint.${hint}`, hint)));
  return element("ul", { className: "hints" }, ...items);
}
