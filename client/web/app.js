import { about } from "./about.js";
import { LANGUAGES, choose, language, onLanguage, t, tag, translate } from "./language.js";
import { mount as mountMicrophone } from "./microphone/view.js";
import { Feed } from "./monitor/feed.js";
import { mount as mountMonitor } from "./monitor/view.js";
import { element, say } from "./parts/dom.js";
import { mount as mountRecordings } from "./recordings/view.js";
import { askWith, info } from "./server.js";
import { signIn } from "./sign-in.js";

const at = (id) => document.getElementById(id);

/** Made when first wanted; `mount(element)` may return `{ show(rest), hide() }`. */
const VIEWS = {
  monitor: (node) => mountMonitor(node, feed),
  microphone: mountMicrophone,
  recordings: mountRecordings,
};
const mounted = new Map();

askWith(signIn(at("login")));

// The connection lives as long as the page, whatever is looked at.
const feed = new Feed();
let state = { state: "connecting", seconds: 0 };
let known = null;
feed.changed.add((name, seconds) => {
  const before = state.state;
  state = { state: name, seconds };
  status();
  // A restart may have changed what runs; the page stays as it is when this fails.
  if (name === "live" && before !== "live") info(true).then(tell, () => {});
});

function tell(told) {
  known = told;
  about(at("about"), told);
}

function status() {
  at("status").dataset.state = state.state;
  say(at("status-text"), t(`status.${state.state}`, { s: state.seconds }));
  at("retry").hidden = !["waiting", "locked"].includes(state.state);
}

/** `#monitor/call-7` is the view `monitor` and, in it, `call-7`. */
function route() {
  const [wanted, ...rest] = location.hash.slice(1).split("/");
  const name = wanted in VIEWS ? wanted : "monitor";
  return { name, rest: decodeURIComponent(rest.join("/")) };
}

function go() {
  const { name, rest } = route();
  for (const link of at("views").children) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const other of Object.keys(VIEWS)) {
    const node = at(`view-${other}`);
    if (other !== name && !node.hidden) mounted.get(other)?.hide?.();
    node.hidden = other !== name;
  }
  document.title = `${t(`shell.${name}`)} · Emotide`;
  if (!mounted.has(name)) mounted.set(name, VIEWS[name](at(`view-${name}`)));
  mounted.get(name)?.show?.(rest);
}

function speak() {
  document.documentElement.lang = tag();
  translate(document);
  document.title = `${t(`shell.${route().name}`)} · Emotide`;
  for (const button of at("languages").children) {
    button.setAttribute("aria-pressed", button.dataset.language === language());
  }
  status();
  if (known) tell(known);
}

for (const [key, { name, tag: lang }] of Object.entries(LANGUAGES)) {
  const button = element("button", { type: "button", lang, onclick: () => choose(key) }, name);
  button.dataset.language = key;
  at("languages").append(button);
}
at("retry").addEventListener("click", () => feed.connect());
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
addEventListener("hashchange", go);
addEventListener("emotide:on-air", ({ detail }) => (at("on-air").hidden = !detail));
onLanguage(speak);
speak();
feed.connect();
go();
