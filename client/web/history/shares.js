import { element } from "../parts/dom.js";
import { topLabel } from "../parts/labels.js";
import { emotion, shareBar } from "../parts/utterances.js";

/** Return the label with the largest share and all shares as a bar; "–" without shares. */
export function sharesCell(shares) {
  const top = topLabel(shares);
  if (!top) return element("span", {}, "–");
  return element("span", { className: "history-shares" }, emotion({ label: top, score: shares[top] }), shareBar(shares));
}
