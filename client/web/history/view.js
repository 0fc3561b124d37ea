import { onLanguage, t } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { addressIn, addressOf } from "./address.js";
import { Call } from "./call.js";
import { Chart } from "./chart.js";
import { Confirm } from "./confirm.js";
import { dayOf, monthOf } from "./dates.js";
import { Exports } from "./exports.js";
import { FilterBar } from "./filter-bar.js";
import { changed, filtersIn, isFiltered, moved, onlyRange, period, queryOf, serverQuery } from "./filters.js";
import { Groups } from "./groups.js";
import { List } from "./list.js";
import { loadOverview } from "./loading.js";
import { emptyCard, failureCard } from "./notice.js";
import { Pages } from "./pages.js";
import { HistoryError, deleteCall, listCalls, readCall } from "./requests.js";

/** Time after which a list that includes today is loaded again. */
const REFRESH_MS = 5_000;
/** Tags that the filter offers. */
const MOST_TAGS = 200;

/** Show the history in `node`. */
export function mount(node) {
  return new View(node);
}

/** Filters, picture and list of calls, or one call; which of them is in the page's address. */
class View {
  #shown = false;
  #filters = filtersIn("");
  #id = "";
  #pages = new Pages();
  #loaded = null;
  #failure = null;
  #abort = null;
  #call = null;
  #data = null;

  constructor(node) {
    const go = (filters) => this.#go(filters);
    this.filterBar = new FilterBar(go);
    this.chart = new Chart((key, step) => addressOf("", this.#ofColumn(key, step)), (direction) => go(moved(this.#filters, direction, new Date())));
    this.groups = new Groups((tag) => addressOf("", changed(this.#filters, { tag })));
    this.list = new List((id) => addressOf(id, this.#filters), () => this.#loadMore());
    this.exports = new Exports(() => this.#selected());
    this.confirm = new Confirm();
    this.title = element("h2", { tabIndex: -1 });
    this.back = element("a", { className: "back" });
    this.notice = element("div");
    this.listTitle = element("h3");
    this.status = element("p", { className: "soft", role: "status" });
    this.listCard = element(
      "section",
      { className: "card history-calls" },
      element("div", { className: "bar" }, this.listTitle, this.exports.node),
      this.list.node,
    );
    this.results = element("div", { className: "history-results" }, this.chart.node, this.groups.node, this.listCard);
    this.overview = element("div", { className: "history-overview" }, this.filterBar.node);
    this.callSlot = element("div", { hidden: true });
    node.classList.add("history");
    node.append(
      element("div", { className: "history-title" }, this.back, this.title, this.status),
      this.overview,
      this.notice,
      this.results,
      this.callSlot,
      this.confirm.node,
    );
    this.#showTexts();
    onLanguage(() => this.#showTexts());
    setInterval(() => this.#refresh(), REFRESH_MS);
    node.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Show what the page's address names. */
  show() {
    const entered = !this.#shown;
    this.#shown = true;
    // The tab returns to the filters that were set before another view was shown.
    if (entered && location.hash === "#history") {
      window.history.replaceState(window.history.state, "", addressOf("", this.#filters));
    }
    const { id, filters } = addressIn(location.hash);
    const same = queryOf(filters) === queryOf(this.#filters) && this.#loaded !== null;
    const before = this.#id;
    this.#filters = filters;
    this.#id = id;
    this.filterBar.show(filters);
    this.list.relink();
    this.#showParts();
    if (id) {
      if (id !== before || entered) this.#openCall();
      return;
    }
    this.#closeCall();
    this.#load(same && !this.#failure).then(() => before && !entered && this.#focusCall(before));
  }

  hide() {
    this.#shown = false;
    this.#abort?.abort();
  }

  /** Show other filters. The address changes without a step back for each of them. */
  #go(filters) {
    if (!filters) return;
    window.history.replaceState(window.history.state, "", addressOf("", filters));
    this.show();
  }

  /** Return the filters of a column: a month or a day by itself; a chosen hour is taken back. */
  #ofColumn(key, step) {
    if (step === "month") return changed(this.#filters, monthOf(`${key}-01`));
    if (step === "day") return changed(this.#filters, { from: key, to: key });
    return changed(this.#filters, { hour: key === this.#filters.hour ? "" : key });
  }

  /** Load the calls and the summaries. A quiet load keeps what is shown until it has succeeded. */
  async #load(quiet = false) {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const filters = this.#filters;
    this.results.ariaBusy = String(!quiet);
    try {
      const shown = quiet && this.#loaded === queryOf(filters) ? this.#data?.page : null;
      const data = await loadOverview(filters, abort.signal, shown);
      if (abort.signal.aborted || data === null) return;
      this.#failure = null;
      if (quiet && this.#loaded === queryOf(filters)) this.#pages.refresh(data.page);
      else this.#pages.replace(data.page);
      this.#loaded = queryOf(filters);
      this.#data = data;
    } catch (error) {
      if (abort.signal.aborted) return;
      if (!(error instanceof HistoryError)) throw error;
      // What is shown stays if the server is away for a moment.
      if (quiet && ["away", "busy", "failed"].includes(error.kind)) return;
      this.#failure = error;
    }
    this.results.ariaBusy = "false";
    this.#show();
  }

  async #loadMore() {
    const { button } = this.list;
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    const { length } = this.#pages.calls;
    const loaded = this.#loaded;
    try {
      const page = await listCalls(serverQuery(this.#filters, new Date()), this.#pages.next, this.#abort?.signal);
      if (loaded === this.#loaded) {
        this.#pages.append(page);
        this.#showList();
        this.list.focusRow(length);
      }
      setText(this.status, "");
    } catch (error) {
      if (error instanceof HistoryError) setText(this.status, t(`history.error.${error.kind}`));
    }
    button.ariaBusy = "false";
  }

  /** Load again if the newest calls are shown, so that a call appears after it has ended. */
  #refresh() {
    const now = new Date();
    const { from, to } = period(this.#filters, now);
    const current = !from || (from <= dayOf(now) && dayOf(now) <= to);
    const idle = this.#shown && !document.hidden && !this.#id && this.results.ariaBusy !== "true";
    if (idle && current && !this.#failure && this.#loaded !== null) this.#load(true);
  }

  #show() {
    this.#showParts();
    this.notice.replaceChildren();
    if (this.#failure) {
      this.notice.append(failureCard(this.#failure, () => this.#load()));
      return;
    }
    if (!this.#data) return;
    const now = new Date();
    const { rows, byTag, tags, tenants } = this.#data;
    const names = tenants.map(({ key }) => key);
    const frequent = tags.filter(({ key }) => key).sort((a, b) => b.calls - a.calls).slice(0, MOST_TAGS);
    this.filterBar.offer(frequent.map(({ key }) => key).sort(), names);
    const movable = { before: moved(this.#filters, -1, now) !== null, after: moved(this.#filters, 1, now) !== null };
    this.chart.show(rows, period(this.#filters, now), this.#filters.hour, movable);
    this.groups.show(byTag);
    this.#showList();
    if (!this.#pages.calls.length) {
      const filtered = isFiltered(this.#filters);
      const wider = filtered ? onlyRange(this.#filters) : changed(this.#filters, { range: "all" });
      const widen = filtered || this.#filters.range !== "all" ? () => this.#go(wider) : null;
      this.notice.append(emptyCard(filtered, widen));
    }
  }

  #showList() {
    const { calls, next } = this.#pages;
    this.listCard.hidden = !calls.length;
    this.list.show(calls, next !== null, (this.#data?.tenants.length ?? 0) > 1);
  }

  /** Show the overview or the call, and hide what a failure leaves without content. */
  #showParts() {
    const open = Boolean(this.#id);
    const dead = ["off", "forbidden", "locked"].includes(this.#failure?.kind);
    this.overview.hidden = open || dead;
    this.results.hidden = open || this.#failure !== null || this.#data === null;
    this.notice.hidden = open;
    this.callSlot.hidden = !open;
    this.back.hidden = !open;
    this.back.href = addressOf("", this.#filters);
    if (!open) setText(this.title, t("history.title"));
  }

  async #openCall() {
    this.#closeCall();
    this.#abort?.abort();
    const { signal } = (this.#abort = new AbortController());
    const id = this.#id;
    setText(this.title, this.#pages.calls.find((call) => call.id === id)?.stream_id ?? t("history.loading"));
    setText(this.status, "");
    this.title.focus({ preventScroll: true });
    scrollTo(0, 0);
    try {
      const data = await readCall(id, signal);
      if (this.#id !== id) return;
      this.#call = { data, part: null };
      this.#showCall();
    } catch (error) {
      if (signal.aborted || this.#id !== id) return;
      if (!(error instanceof HistoryError)) throw error;
      setText(this.title, t("history.call"));
      this.callSlot.replaceChildren(failureCard(error, () => this.#openCall()));
    }
  }

  #showCall() {
    const { data, part } = this.#call;
    part?.destroy();
    const remove = () => this.confirm.open(data.stream_id, () => this.#delete(data.id));
    this.#call.part = new Call(data, remove);
    setText(this.title, data.stream_id);
    this.callSlot.replaceChildren(this.#call.part.node);
  }

  #closeCall() {
    this.#call?.part.destroy();
    this.#call = null;
    this.callSlot.replaceChildren();
  }

  async #delete(id) {
    await deleteCall(id).catch((error) => {
      // Another user may have deleted it.
      if (error.kind !== "gone") throw error;
    });
    this.#pages.remove(id);
    location.hash = addressOf("", this.#filters);
    setText(this.status, t("history.deleted"));
  }

  #focusCall(id) {
    if (!this.list.focus(id)) this.title.focus({ preventScroll: true });
  }

  /** Return the query and the name of a file for what is shown. */
  #selected() {
    const now = new Date();
    const { from, to } = period(this.#filters, now);
    const name = from ? `history-${from}${to === from ? "" : `-${to}`}` : "history";
    return { query: serverQuery(this.#filters, now), name };
  }

  #onKey(event) {
    const typing = event.target.closest("input, select, dialog");
    if (event.key !== "Escape" || typing || !this.#id) return;
    event.preventDefault();
    location.hash = addressOf("", this.#filters);
  }

  #showTexts() {
    setText(this.back, `← ${t("history.back")}`);
    setText(this.listTitle, t("history.list"));
    setText(this.status, "");
    this.exports.showTexts();
    this.list.clear();
    this.#show();
    if (this.#call) this.#showCall();
  }
}
