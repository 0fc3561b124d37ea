import { onLanguage, t, translate } from "../language.js";
import { element, say } from "../parts/dom.js";
import { address } from "../server.js";
import { Detail } from "./detail.js";
import { Frames } from "./frames.js";
import { List } from "./list.js";
import { Streams } from "./streams.js";
import { Summary } from "./summary.js";

const EVENTS = ["session.*", "speech.*", "emotion.*", "stream.*"];
const DEFAULT_HOSTS = ["localhost:8765", "127.0.0.1:8765"];
const TIDY = 2_000;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show all live streams in `node`, as the page's `feed` tells of them. */
export function mount(node, feed) {
  const streams = new Streams();
  const list = new List();
  const detail = new Detail();
  const frames = new Frames();
  const page = frame(list.node, detail.node);
  node.append(page.node);
  const summary = new Summary(page.spoken);
  let connected = feed.state === "live";
  let heard = false;
  let shown = false;
  let last = null;

  feed.heard.add((message) => {
    if (message.type === "snapshot") heard = true;
    streams.take(message, Date.now());
  });
  feed.changed.add((state) => {
    connected = state === "live";
    if (connected) history();
  });
  // Also while nobody looks: what has ended must not gather.
  setInterval(() => streams.tidy(Date.now(), detail.id), TIDY);
  feed.subscribe("page", { rate_hz: 2, filter: { events: EVENTS } });

  /** What the server still knows of the stream from before we listened. */
  function history() {
    if (detail.id) {
      feed.once("history", { filter: { streams: [detail.id] }, snapshot: false, since: { [detail.id]: -1 } });
    }
  }

  function draw() {
    const now = Date.now();
    if (!detail.id) return rows(now);
    const stream = streams.get(detail.id);
    detail.show(stream, now, heard);
    frames.follow(stream, now);
  }

  function rows(now) {
    const all = streams.all;
    const typed = page.filter.value;
    const fitting = list.show(all, typed, now);
    const { live } = streams;
    const n = live.length;
    say(page.count, typed ? t("monitor.matching", { n: fitting, all: all.length }) : t("monitor.count", { n }));
    page.empty.hidden = all.length > 0 || !heard;
    page.none.hidden = !all.length || fitting > 0;
    page.order.hidden = all.length < 2;
    page.find.hidden = !all.length;
    list.node.dataset.connected = connected;
    summary.tell(live, connected, now);
  }

  function run() {
    if (!shown) return;
    // A hidden page draws nothing; the streams are followed all the same.
    if (!document.hidden) draw();
    setTimeout(run, calm.matches ? 1000 : detail.id ? 250 : 500);
  }

  function show(id) {
    const open = Boolean(id);
    page.overview.hidden = open;
    detail.node.hidden = !open;
    if (open && detail.id !== id) {
      last = id;
      detail.open(id);
      history();
    } else if (!open && detail.id) detail.close();
    draw();
    if (!open && last) {
      list.focus(last);
      last = null;
    }
    if (shown) return;
    shown = true;
    run();
  }

  addEventListener("keydown", (event) => {
    const busy = document.querySelector("dialog[open]") || event.defaultPrevented;
    if (shown && event.key === "Escape" && detail.id && !busy) location.hash = "#monitor";
  });
  page.filter.addEventListener("input", draw);
  page.clear.addEventListener("click", () => {
    page.filter.value = "";
    page.filter.focus();
    draw();
  });
  onLanguage(() => {
    list.anew();
    if (shown) draw();
  });
  return { show, hide: () => (shown = false) };
}

/** The parts of the view that stay. */
function frame(list, detail) {
  const word = (tag, key, properties = {}) => {
    const made = element(tag, properties);
    made.dataset.t = key;
    return made;
  };
  const filter = element("input", { type: "search", id: "filter", autocomplete: "off" });
  filter.dataset.tPlaceholder = "monitor.filter.example";
  const find = element("label", { className: "find", htmlFor: "filter" }, word("span", "monitor.filter"), filter);
  const count = element("p", { className: "soft", id: "count" });
  const title = element("div", { className: "title" }, word("h2", "monitor.title"), find, count);
  const clear = word("button", "monitor.clear", { type: "button", className: "small" });
  const none = element("p", { className: "card none", hidden: true }, word("span", "monitor.none"), " ", clear);
  const order = word("p", "monitor.order", { className: "soft order", hidden: true });
  const empty = element("section", { className: "card empty", hidden: true });
  const code = (text) => element("code", { tabIndex: 0 }, text);
  const server = DEFAULT_HOSTS.includes(location.host) ? "" : ` ${address("").replace(/\/$/, "")}`;
  const contract = word("a", "monitor.empty.contract", { href: "asyncapi.yaml" });
  empty.append(
    word("h3", "monitor.empty"),
    word("p", "monitor.empty.how"),
    word("p", "monitor.empty.any", { className: "soft" }),
    code(`.venv/bin/python -m client.replay client/samples/call.flac${server}`),
    element(
      "p",
      {},
      word("span", "monitor.empty.raw"),
      " ",
      code(address("v1/stream?sample_rate=16000")),
      " · ",
      contract,
    ),
  );
  const overview = element("div", {}, title, order, empty, none, list);
  const spoken = element("p", { className: "unseen", id: "summary" });
  spoken.setAttribute("aria-live", "polite");
  const node = element("div", { className: "monitor" }, overview, detail, spoken);
  translate(node);
  return { node, overview, filter, find, count, clear, none, order, empty, spoken };
}
