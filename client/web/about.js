import { t } from "./language.js";
import { element } from "./parts/dom.js";
import { name, roleName } from "./parts/labels.js";

/** Say what runs here: the model, its licence and what is analysed; `info` is `/v1/info`. */
export function about(node, { model, privacy, version, node: server }) {
  if (!model) return;
  const facts = [
    ["about.model", `${model.id} (${model.revision})`],
    ["about.licence", model.licence],
    ["about.device", model.device],
    // In the server's own words, which are English.
    ["about.why", element("span", { lang: "en" }, model.why)],
    ["about.missing", model.missing_labels.map(name).join(", ")],
    ["about.analysed", privacy.analyse_roles.map(roleName).join(", ")],
    ["about.kept", privacy.audio_kept ? t("about.yes") : t("about.none")],
    ["about.server", version === "0" ? server : `${server}, Emotide ${version}`],
  ];
  const list = element("dl");
  for (const [term, value] of facts) {
    if (!(value.textContent ?? value)) continue;
    list.append(element("div", {}, element("dt", {}, t(term)), element("dd", {}, value)));
  }
  node.replaceChildren(list);
}
