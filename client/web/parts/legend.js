import { element } from "./dom.js";
import { labelClass, labelName, labelSymbol } from "./labels.js";

/** Return a list of labels with their colours. */
export function legend(labels, className = "legend") {
  const items = labels.map((label) => {
    const swatch = element("span", { className: `fill ${labelClass(label)}`, ariaHidden: "true" });
    return element("li", {}, swatch, `${labelSymbol(label)} ${labelName(label)}`);
  });
  return element("ul", { className }, ...items);
}
