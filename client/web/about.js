import { t } from "./language.js";
import { element } from "./parts/dom.js";
import { labelName, roleName } from "./parts/labels.js";

/** Show the model, its licence and the analysed roles in `node`, from the body of `/v1/info`. */
export function showAbout(node, about) {
  const { model, recordings_model: other, privacy, history, version, node: server } = about;
  if (!model) return;
  const facts = [
    ["about.model", `${model.id} (${model.revision})`],
    ["about.recordings_model", other && other.id !== model.id ? `${other.id} (${other.revision})` : ""],
    ["about.licence", model.licence],
    ["about.device", model.device],
    // The server writes the reason, in English.
    ["about.reason", element("span", { lang: "en" }, model.why)],
    ["about.recordings_reason", element("span", { lang: "en" }, other?.id === model.id ? "" : (other?.why ?? ""))],
    ["about.missing_labels", model.missing_labels.map(labelName).join(", ")],
    ["about.analysed", privacy.analyse_roles.map(roleName).join(", ")],
    ["about.audio_kept", t(privacy.audio_kept ? "about.yes" : "about.no")],
    ["about.history", history ? historyText(history) : ""],
    ["about.server", version === "0" ? server : `${server}, Emotide ${version}`],
  ];
  const list = element("dl");
  for (const [term, value] of facts) {
    if (!(value.textContent ?? value)) continue;
    list.append(element("div", {}, element("dt", {}, t(term)), element("dd", {}, value)));
  }
  node.replaceChildren(list);
}

/** Return for how long the server keeps calls after they end. */
function historyText({ enabled, keep_days: days }) {
  if (!enabled) return t("about.history.off");
  return days === null ? t("about.history.unlimited") : t("about.history.days", { n: days });
}
