import { socketUrl } from "../api.js";
import { onLanguage, t, translate } from "../language.js";
import { element, setText, translated } from "../parts/dom.js";
import { Announcer } from "./announcer.js";
import { Detail } from "./detail.js";
import { FrameLoader } from "./frame-loader.js";
import { List } from "./list.js";
import { Notifier } from "./notifier.js";
import { Streams, partsOf } from "./streams.js";

const LIVE = "page";
const EVENTS = ["session.*", "speech.*", "emotion.*", "stream.*", "conversation", "alert"];
/** Servers that `client.replay` uses without an argument. */
const DEFAULT_HOSTS = ["localhost:8765", "127.0.0.1:8765"];
const REMOVE_MS = 2_000;
const LIST_MS = 500;
const DETAIL_MS = 250;
const CALM_MS = 1_000;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** Show all live streams in `node`, from the messages of the page's `feed`. */
export function mount(node, feed) {
  const streams = new Streams();
  const list = new List();
  const detail = new Detail();
  const frameLoader = new FrameLoader();
  const notifier = new Notifier(LIVE);
  const page = layout(list.node, detail.node, notifier.node);
  node.append(page.node);
  const announcer = new Announcer(page.announcement);
  let connected = feed.state === "live";
  let complete = false;
  let shown = false;
  let opened = null;

  feed.onMessage((message) => {
    if (message.type === "snapshot") complete = true;
    streams.apply(message, Date.now());
    notifier.receive(message, Date.now());
  });
  feed.onState((state) => {
    connected = state === "live";
    if (connected) requestHistory();
  });
  // Also while the view is hidden, so that ended streams do not accumulate.
  setInterval(() => streams.removeEnded(Date.now(), detail.id), REMOVE_MS);
  feed.subscribe(LIVE, { rate_hz: 2, filter: { events: EVENTS } });

  /** Request the events of the shown stream that the server still keeps. */
  function requestHistory() {
    if (detail.id) {
      const [tenant, id] = partsOf(detail.id);
      const filter = { streams: [id], ...(tenant && { tenants: [tenant] }) };
      feed.request("history", { filter, snapshot: false, since: { [detail.id]: -1 } });
    }
  }

  function draw() {
    const now = Date.now();
    if (!detail.id) return drawList(now);
    const stream = streams.get(detail.id);
    detail.show(stream, now, complete);
    frameLoader.update(stream, now);
  }

  function drawList(now) {
    const { all, live } = streams;
    const query = page.filter.value;
    const matching = list.show(all, query, now);
    const count = query ? t("monitor.matching", { n: matching, all: all.length }) : t("monitor.count", { n: live.length });
    setText(page.count, count);
    page.empty.hidden = all.length > 0 || !complete;
    page.noMatch.hidden = !all.length || matching > 0;
    page.order.hidden = all.length < 2;
    page.find.hidden = !all.length;
    list.node.dataset.connected = connected;
    announcer.update(live, connected, now);
  }

  function drawRepeatedly() {
    if (!shown) return;
    // A hidden page draws nothing, but still applies all events.
    if (!document.hidden) draw();
    setTimeout(drawRepeatedly, reducedMotion.matches ? CALM_MS : detail.id ? DETAIL_MS : LIST_MS);
  }

  function show(id) {
    const open = Boolean(id);
    page.overview.hidden = open;
    detail.node.hidden = !open;
    if (open && detail.id !== id) {
      opened = id;
      detail.open(id);
      requestHistory();
    } else if (!open && detail.id) detail.close();
    draw();
    if (!open && opened) {
      list.focus(opened);
      opened = null;
    }
    if (shown) return;
    shown = true;
    drawRepeatedly();
  }

  addEventListener("keydown", (event) => {
    const handled = document.querySelector("dialog[open]") || event.defaultPrevented;
    if (shown && event.key === "Escape" && detail.id && !handled) location.hash = "#monitor";
  });
  page.filter.addEventListener("input", draw);
  page.clear.addEventListener("click", () => {
    page.filter.value = "";
    page.filter.focus();
    draw();
  });
  onLanguage(() => {
    list.clear();
    if (shown) draw();
  });
  return { show, hide: () => (shown = false) };
}

/** Return the elements of the view around the list, the detail and the switches `notify`. */
function layout(list, detail, notify) {
  const filter = element("input", { type: "search", id: "filter", autocomplete: "off" });
  filter.dataset.tPlaceholder = "monitor.filter.example";
  const find = element("label", { className: "find", htmlFor: "filter" }, translated("span", "monitor.filter"), filter);
  const count = element("p", { className: "soft", id: "count" });
  const title = element("div", { className: "title" }, translated("h2", "monitor.title"), notify, find, count);
  const clear = translated("button", "monitor.clear", { type: "button", className: "small" });
  const noMatch = element("p", { className: "card no-match", hidden: true }, translated("span", "monitor.no_match"), " ", clear);
  const order = translated("p", "monitor.order", { className: "soft order", hidden: true });
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
  const overview = element("div", {}, title, order, empty, noMatch, list);
  const announcement = element("p", { className: "visually-hidden", id: "announcement" });
  announcement.setAttribute("aria-live", "polite");
  const node = element("div", { className: "monitor" }, overview, detail, announcement);
  translate(node);
  return { node, overview, filter, find, count, clear, noMatch, order, empty, announcement };
}
