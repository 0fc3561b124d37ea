import { element, say } from "./dom.js";
import { name } from "./labels.js";
import { words } from "./words.js";

/** Fill in what runs here; called at every connect, because a restart may change it. */
export async function about(node, notice) {
  const response = await fetch("v1/info");
  if (!response.ok) return;
  const { model, privacy, version, node: server, notice: text } = await response.json();
  if (text) say(notice, text);
  if (!model) return;
  const facts = [
    [words.model, `${model.id} (${model.revision})`],
    [words.licence, model.licence],
    [words.device, model.device],
    [words.why, model.why],
    [words.missing, model.missing_labels.map(name).join(", ")],
    [words.analysed, privacy.analyse_roles.join(", ")],
    [words.kept, privacy.audio_kept ? "" : words.no],
    [words.server, version === "0" ? server : `${server}, Emotide ${version}`],
  ];
  const shown = facts.filter(([, value]) => value);
  const list = element("dl");
  for (const [term, value] of shown) {
    list.append(element("div", {}, element("dt", {}, term), element("dd", {}, value)));
  }
  node.replaceChildren(list);
}
