import { t } from "../language.js";
import { element } from "../parts/dom.js";

/** Command and lines of a configuration that keep a history. */
const INSTALL = "pip install 'emotide[history]'";
const EXAMPLE = '[history]\nurl = "sqlite:///history.db"\nkeep_days = 90';

/** Return a card that explains why nothing is shown; `retry()` tries again, if that can help. */
export function failureCard({ kind, detail }, retry) {
  if (kind === "off") return offCard();
  const card = element("section", { className: "card history-notice", role: "alert" }, element("p", {}, t(`history.error.${kind}`)));
  // The server's text names the filter that is wrong, in English.
  if (kind === "invalid" && detail) card.append(element("p", { className: "soft", lang: "en" }, detail));
  const again = t(kind === "locked" ? "login.submit" : "shell.retry");
  if (kind !== "forbidden" && kind !== "gone") card.append(element("p", {}, element("button", { type: "button", onclick: retry }, again)));
  return card;
}

/** Return a card for a server that keeps no history. */
export function offCard() {
  return element(
    "section",
    { className: "card history-notice" },
    element("h3", {}, t("history.off")),
    element("p", {}, t("history.off.about")),
    ...[INSTALL, EXAMPLE].map((text) => element("pre", { tabIndex: 0 }, element("code", {}, text))),
    element("p", { className: "soft" }, t("history.off.privacy")),
  );
}

/** Return a card for a time without calls; `widen()` removes the `filtered` filters, or the ends of the time. */
export function emptyCard(filtered, widen) {
  const card = element("section", { className: "card history-notice" }, element("p", {}, t(filtered ? "history.no_match" : "history.empty")));
  if (!widen) return card;
  const text = t(filtered ? "history.clear" : "history.range.all");
  card.append(element("p", {}, element("button", { type: "button", onclick: widen }, text)));
  return card;
}
