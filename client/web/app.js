import { showAbout } from "./about.js";
import { historyOffer, serverInfo, setKeyPrompt } from "./api.js";
import { mount as mountHistory } from "./history/view.js";
import { LANGUAGES, language, onLanguage, setLanguage, t, tag, translate } from "./language.js";
import { mount as mountMicrophone } from "./microphone/view.js";
import { Feed } from "./monitor/feed.js";
import { storedChoices } from "./monitor/notifications.js";
import { mount as mountMonitor } from "./monitor/view.js";
import { element, setText } from "./parts/dom.js";
import { mount as mountRecordings } from "./recordings/view.js";
import { keyPrompt } from "./sign-in.js";

const byId = (id) => document.getElementById(id);

/** Views by name; created when first shown. `mount(element)` may return `{ show(rest), hide() }`. */
const VIEWS = {
  monitor: (node) => mountMonitor(node, feed),
  microphone: mountMicrophone,
  recordings: mountRecordings,
  history: mountHistory,
};
const mounted = new Map();

setKeyPrompt(keyPrompt(byId("login")));

// The connection lives as long as the page, whichever view is shown.
const feed = new Feed();
let connection = { state: "connecting", seconds: 0 };
let info = null;
feed.onState((state, seconds) => {
  const before = connection.state;
  connection = { state, seconds };
  showStatus();
  // A restart may have changed the model. If this fails, the page stays as it is.
  if (state === "live" && before !== "live") serverInfo({ refresh: true }).then(showInfo, () => {});
});

function showInfo(body) {
  info = body;
  showAbout(byId("about"), info);
  byId("history-link").hidden = !historyOffer();
}

function showStatus() {
  const { state, seconds } = connection;
  byId("status").dataset.state = state;
  setText(byId("status-text"), t(`status.${state}`, { s: seconds }));
  byId("retry").hidden = !["waiting", "locked", "refused"].includes(state);
}

/** Return the view and the rest of the address: `#monitor/call-7` is `monitor` and `call-7`. */
function route() {
  const [, wanted, rest] = /^#?([^/?]*)\/?(.*)$/s.exec(location.hash);
  const name = Object.hasOwn(VIEWS, wanted) ? wanted : "monitor";
  return { name, rest: decoded(rest) };
}

/** Return a part of an address decoded, or as it is if it was not encoded: people edit addresses. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function showView() {
  const { name, rest } = route();
  for (const link of byId("views").children) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const other of Object.keys(VIEWS)) {
    const node = byId(`view-${other}`);
    if (other !== name && !node.hidden) mounted.get(other)?.hide?.();
    node.hidden = other !== name;
  }
  document.title = `${t(`shell.${name}`)} · Emotide`;
  if (!mounted.has(name)) mounted.set(name, VIEWS[name](byId(`view-${name}`)));
  mounted.get(name)?.show?.(rest);
}

function showTexts() {
  document.documentElement.lang = tag();
  translate(document);
  document.title = `${t(`shell.${route().name}`)} · Emotide`;
  for (const button of byId("languages").children) {
    button.setAttribute("aria-pressed", button.dataset.language === language());
  }
  showStatus();
  if (info) showInfo(info);
}

for (const [key, { name, tag: lang }] of Object.entries(LANGUAGES)) {
  const button = element("button", { type: "button", lang, onclick: () => setLanguage(key) }, name);
  button.dataset.language = key;
  byId("languages").append(button);
}
byId("retry").addEventListener("click", () => feed.connect());
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
addEventListener("hashchange", showView);
addEventListener("emotide:microphone", ({ detail }) => (byId("microphone-live").hidden = !detail));
onLanguage(showTexts);
showTexts();
feed.connect();
showView();
// Alerts are signalled whichever view is shown.
const { sound, desktop } = storedChoices();
if ((sound || desktop) && !mounted.has("monitor")) mounted.set("monitor", VIEWS.monitor(byId("view-monitor")));
