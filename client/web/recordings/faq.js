import { request } from "../api.js";
import { LANGUAGES, language, t } from "../language.js";
import { element } from "../parts/dom.js";

/** Return the frequent questions of docs/questions.md, which are loaded when first opened. */
export function faq() {
  const body = element("div", { className: "answers" });
  const node = element("details", { className: "card faq" });
  node.append(element("summary", {}, element("h3", {}, t("recordings.faq"))), body);
  node.addEventListener("toggle", async () => {
    if (!node.open || body.children.length) return;
    try {
      const response = await request("questions.md");
      if (!response.ok) throw new Error(String(response.status));
      body.replaceChildren(...answers(await response.text(), LANGUAGES[language()].name));
    } catch {
      body.replaceChildren();
      body.textContent = t("recordings.faq.failed");
    }
  });
  return node;
}

/** Return the questions of the section `## title`: each a heading, then paragraphs and lists. */
function answers(markdown, title) {
  const section = markdown.split(/^## /m).find((text) => text.startsWith(title)) ?? "";
  return section
    .split(/^### /m)
    .slice(1)
    .map((text) => {
      const [question, ...rest] = text.split("\n");
      const blocks = rest.join("\n").trim().split(/\n{2,}/);
      const node = element("details");
      node.append(element("summary", {}, question), ...blocks.map(block));
      return node;
    });
}

function block(text) {
  if (!text.startsWith("- ")) return element("p", {}, ...inline(text));
  const items = text.slice(2).split(/\n- /);
  return element("ul", {}, ...items.map((item) => element("li", {}, ...inline(item))));
}

/** Return the nodes of a line: `code`, **bold**, and the texts of links. */
function inline(text) {
  const pieces = text.replace(/\s*\n\s*/g, " ").split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]+\))/);
  return pieces.map((piece) => {
    if (piece.startsWith("`")) return element("code", {}, piece.slice(1, -1));
    if (piece.startsWith("**")) return element("b", {}, piece.slice(2, -2));
    return piece.replace(/^\[([^\]]+)\]\([^)]+\)$/, "$1");
  });
}
