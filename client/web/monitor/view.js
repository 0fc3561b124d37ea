import { mayAcknowledge } from "../api.js";
import { onLanguage, t } from "../language.js";
import { setText } from "../parts/dom.js";
import { onPalette } from "../parts/palette.js";
import { Announcer } from "./announcer.js";
import { Detail } from "./detail.js";
import { FilterBar } from "./filter-bar.js";
import { isFiltered, matches, queryText } from "./filters.js";
import { FrameLoader } from "./frame-loader.js";
import { Help } from "./help.js";
import { Keys } from "./keys.js";
import { layout } from "./layout.js";
import { List } from "./list.js";
import { Notifier } from "./notifier.js";
import { counts } from "./order.js";
import { Streams, partsOf } from "./streams.js";
import { Wall } from "./wall.js";

const LIVE = "page";
const EVENTS = ["session.*", "speech.*", "emotion.*", "stream.*", "conversation", "alert"];
const REMOVE_MS = 2_000;
const LIST_MS = 500;
const DETAIL_MS = 250;
const CALM_MS = 1_000;
/** With more streams than this, the list is drawn once a second, as often as there are scores. */
const MANY = 50;
const PAGE_ROWS = 10;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** Show all live streams in `node`, from the messages of the page's `feed`. */
export function mount(node, feed) {
  const streams = new Streams((name, id) => {
    const [tenant, streamId] = partsOf(name);
    if (mayAcknowledge()) feed.acknowledge({ stream_id: streamId, id, ...(tenant && { tenant }) });
  });
  const list = new List();
  const detail = new Detail();
  const frameLoader = new FrameLoader();
  const filters = new FilterBar(draw);
  const wall = new Wall(() => setWall(false));
  const keys = new Keys(keyActions(), () => shown);
  const help = new Help(keys);
  const notifier = new Notifier(LIVE);
  const page = layout({ filters, list, detail, wall, help, notifier });
  node.append(page.node);
  const announcer = new Announcer(page.announcement);
  let connected = feed.state === "live";
  let complete = false;
  let shown = false;
  let opened = null;
  let wallWanted = new URLSearchParams(location.search).has("wall");

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
    if (!detail.id) return drawOverview(now);
    const stream = streams.get(detail.id);
    detail.show(stream, now, complete);
    frameLoader.update(stream, now);
  }

  function drawOverview(now) {
    const { all, live } = streams;
    for (const stream of all) stream.attention.update([...stream.channels.values()], now);
    announcer.update(live, connected, now);
    if (wallWanted) drawWall(all, now);
    else drawList(all, now);
  }

  function drawWall(all, now) {
    const matching = all.filter((stream) => matches(stream, filters.values));
    wall.show(matching, counts(matching), filters.describe(), connected, now);
  }

  function drawList(all, now) {
    const { live, speaking, urgent, alerts } = counts(all);
    filters.update(all, now);
    const filtered = isFiltered(filters.values);
    const matching = list.show(all, filters.values, now);
    setText(page.count, filtered ? t("monitor.matching", { n: matching, all: all.length }) : t("monitor.count", { n: live }));
    const facts = [t("monitor.speaking", { n: speaking }), urgent && t("monitor.urgent_count", { n: urgent }), alerts && t("monitor.alert_count", { n: alerts })];
    setText(page.facts, live ? facts.filter(Boolean).join(" · ") : "");
    page.empty.hidden = all.length > 0 || !complete;
    page.noMatch.hidden = !all.length || matching > 0;
    filters.node.hidden = !all.length && !filtered;
    list.node.dataset.connected = connected;
  }

  function drawRepeatedly() {
    if (!shown) return;
    // A hidden page draws nothing, but still applies all events.
    if (!document.hidden) draw();
    setTimeout(drawRepeatedly, period());
  }

  function period() {
    if (reducedMotion.matches) return CALM_MS;
    if (detail.id) return DETAIL_MS;
    return streams.all.length > MANY ? CALM_MS : LIST_MS;
  }

  function show(id) {
    const open = Boolean(id);
    wall.shown = wallWanted && !open;
    page.overview.hidden = open || wallWanted;
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

  function hide() {
    shown = false;
    wall.shown = false;
  }

  /** Show the wall or the list, and keep the choice in the page's address. */
  function setWall(on) {
    wallWanted = on;
    const query = new URLSearchParams(location.search);
    if (on) query.set("wall", "");
    else query.delete("wall");
    history.replaceState(history.state, "", location.pathname + queryText(query) + location.hash);
    show(detail.id ?? "");
  }

  function keyActions() {
    const inList = () => !detail.id && !wallWanted;
    const move = (step) => () => inList() && list.move(step);
    const moveInList = (step) => () => inList() && list.hasFocus && list.move(step);
    return {
      ArrowDown: move(1),
      ArrowUp: move(-1),
      j: move(1),
      k: move(-1),
      PageDown: moveInList(PAGE_ROWS),
      PageUp: moveInList(-PAGE_ROWS),
      Home: moveInList(-Infinity),
      End: moveInList(Infinity),
      Escape: ({ target }) => back(target),
      "/": () => inList() && void filters.words.focus(),
      a: () => (detail.id ? acknowledge(streams.get(detail.id)) : inList() && list.acknowledge()),
      w: () => !detail.id && void setWall(!wallWanted),
      "?": () => !wallWanted && void help.open(),
    };
  }

  /** Leave the field, the detail or the wall; return whether there was one. */
  function back(target) {
    if (target === filters.words) return filters.clearWords() || list.move(0);
    if (detail.id) location.hash = "#monitor";
    else if (wallWanted) setWall(false);
    else return false;
    return true;
  }

  page.clear.addEventListener("click", () => {
    filters.clear();
    filters.words.focus();
  });
  page.wall.addEventListener("click", () => setWall(true));
  page.help.addEventListener("click", () => help.open());
  onPalette(() => wall.clear());
  onLanguage(() => {
    list.clear();
    wall.clear();
    if (shown) draw();
  });
  return { show, hide };
}

function acknowledge(stream) {
  stream?.alerts.acknowledgeAll();
  return stream !== null;
}
