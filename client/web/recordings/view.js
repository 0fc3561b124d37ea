import { onLanguage, t } from "../language.js";
import { element } from "../parts/dom.js";

/** Show the recordings view in `node`. */
export function mount(node) {
  const text = element("p", { className: "card" });
  const speak = () => (text.textContent = t("recordings.soon"));
  onLanguage(speak);
  speak();
  node.append(text);
}
