import { socketUrl } from "../api.js";
import { translate } from "../language.js";
import { element, translated } from "../parts/dom.js";

/** Servers that `client.replay` uses without an argument. */
const DEFAULT_HOSTS = ["localhost:8765", "127.0.0.1:8765"];

/** Return the elements of the view around those of its parts. */
export function layout(parts) {
  const count = element("span", { id: "count" });
  const facts = element("span", { className: "facts-line soft" });
  const { filters, notifier, list, wall: wallView, detail, help: dialog } = parts;
  const wall = translated("button", "monitor.wall", { type: "button", className: "small" });
  const help = element("button", { type: "button", className: "small" }, "?");
  help.dataset.tLabel = "monitor.help.title";
  const tools = element("div", { className: "tools" }, filters.node, notifier.node, wall, help);
  const title = element("h2", { className: "visually-hidden" });
  title.dataset.t = "monitor.title";
  const bar = element("div", { className: "monitor-bar" }, title, element("p", { className: "numbers" }, count, " ", facts), tools);
  const clear = translated("button", "monitor.clear", { type: "button", className: "small" });
  const noMatch = element("p", { className: "card no-match", hidden: true }, translated("span", "monitor.no_match"), " ", clear);
  const empty = emptyCard();
  const overview = element("div", {}, bar, empty, noMatch, list.node);
  const announcement = element("p", { className: "visually-hidden", id: "announcement" });
  announcement.setAttribute("aria-live", "polite");
  const node = element("div", { className: "monitor" }, overview, wallView.node, detail.node, dialog.node, announcement);
  translate(node);
  return { node, overview, count, facts, tools, wall, help, clear, noMatch, empty, announcement };
}

/** Return the card that explains how to start a stream. */
function emptyCard() {
  const empty = element("section", { className: "card empty", hidden: true });
  const code = (text) => element("code", { tabIndex: 0 }, text);
  const server = DEFAULT_HOSTS.includes(location.host) ? "" : ` ${socketUrl("").replace(/\/$/, "")}`;
  empty.append(
    translated("h3", "monitor.empty"),
    translated("p", "monitor.empty.start"),
    code(`.venv/bin/python -m client.replay client/samples/call.flac${server}`),
    translated("p", "monitor.empty.any", { className: "soft" }),
    element(
      "p",
      {},
      translated("span", "monitor.empty.raw"),
      " ",
      code(socketUrl("v1/stream?sample_rate=16000")),
      " · ",
      translated("a", "monitor.empty.contract", { href: "asyncapi.yaml" }),
    ),
  );
  return empty;
}
