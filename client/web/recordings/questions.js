import { LANGUAGES, language, t } from "../language.js";
import { element } from "../parts/dom.js";
import { get } from "../server.js";

/** What people ask most, from docs/questions.md in the language in use; fetched when opened. */
export function questions() {
  const body = element("div", { className: "answers" });
  const node = element("details", { className: "card questions" });
  node.append(element("summary", {}, element("h3", {}, t("recordings.questions"))), body);
  node.addEventListener("toggle", async () => {
    if (!node.open || body.children.length) return;
    try {
      const response = await get("questions.md");
      if (!response.ok) throw new Error(String(response.status));
      body.replaceChildren(...answers(await response.text(), LANGUAGES[language()].name));
    } catch {
      body.replaceChildren();
      body.textContent = t("recordings.questions.away");
    }
  });
  return node;
}

/** The questions below the heading `## title`: each a heading, then paragraphs and lists. */
function answers(markdown, title) {
  const part = markdown.split(/^## /m).find((text) => text.startsWith(title)) ?? "";
  return part
    .split(/^### /m)
    .slice(1)
    .map((text) => {
      const [question, ...rest] = text.split("\n");
      const blocks = rest.join("\n").trim().split(/\n{2,}/);
      const answer = element("details");
      answer.append(element("summary", {}, question), ...blocks.map(block));
      return answer;
    });
}

function block(text) {
  if (!text.startsWith("- ")) return element("p", {}, ...inline(text));
  const items = text.slice(2).split(/\n- /);
  return element("ul", {}, ...items.map((item) => element("li", {}, ...inline(item))));
}

/** `code`, **bold**, and links, whose words are enough here. */
function inline(text) {
  const pieces = text.replace(/\s*\n\s*/g, " ").split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]+\))/);
  return pieces.map((piece) => {
    if (piece.startsWith("`")) return element("code", {}, piece.slice(1, -1));
    if (piece.startsWith("**")) return element("b", {}, piece.slice(2, -2));
    return piece.replace(/^\[([^\]]+)\]\([^)]+\)$/, "$1");
  });
}
