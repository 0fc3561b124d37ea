import { ownTenant } from "../api.js";
import { t, textFor } from "../language.js";
import { acknowledgedText } from "../parts/acknowledgement.js";
import { Bars } from "../parts/bars.js";
import { conversationRows, rowElements } from "../parts/conversation.js";
import { element, setText } from "../parts/dom.js";
import { duration, percent, timestamp } from "../parts/format.js";
import { hintList } from "../parts/hints.js";
import { labelName, sortLabels } from "../parts/labels.js";
import { legend } from "../parts/legend.js";
import { save } from "../parts/save.js";
import { UtteranceTimeline, positionText } from "../parts/utterance-timeline.js";
import { channelTitle, labelsOf, missing, timelineChannels, utterancesCsv } from "./call-model.js";
import { sharesCell } from "./shares.js";
import { kindText, spanText, startText } from "./texts.js";

const SHORTEST_S = 0.1;
const FIRST_ROWS = 200;
const SHOWN_LABELS = 3;

/** All data of one call of the history. */
export class Call {
  #position = 0;
  #rows = [];

  /** `remove()` deletes the call, after the user has confirmed it. */
  constructor(call, remove) {
    this.call = call;
    this.labels = sortLabels(labelsOf(call));
    this.channels = timelineChannels(call);
    this.node = element(
      "div",
      { className: "history-call" },
      this.#facts(remove),
      ...(this.channels.length ? [this.#timelineCard()] : []),
      this.#alerts(),
      this.#summary(),
      ...(this.channels.length ? [this.#utterances()] : []),
    );
    if (this.timeline) this.#seek(0);
  }

  destroy() {
    this.timeline?.destroy();
  }

  #facts(remove) {
    const { call } = this;
    const facts = [
      startText(call.started_at),
      duration(call.duration_s * 1000),
      kindText(call.kind),
      t("history.speech", { time: timestamp(call.speech_s, false) }),
      `${call.model} (${call.model_license})`,
    ];
    const tags = [call.tenant !== "default" && call.tenant, ...call.tags].filter(Boolean);
    const button = (text, action) => element("button", { type: "button", className: "small", onclick: action }, text);
    const name = fileName(call);
    return element(
      "div",
      { className: "history-head" },
      element("p", { className: "about" }, ...facts.map((fact) => element("span", {}, fact)), ...tags.map((tag) => element("span", { className: "tag" }, tag))),
      element(
        "div",
        { className: "tools" },
        button("JSON", () => save(new Blob([JSON.stringify(call, null, 2)], { type: "application/json" }), `${name}.json`)),
        button("CSV", () => save(new Blob([utterancesCsv(call, this.labels)], { type: "text/csv" }), `${name}.csv`)),
        // A key may see the calls of other tenants, but deletes those of its own.
        ...(call.tenant === ownTenant() ? [button(t("history.delete"), remove)] : []),
      ),
    );
  }

  #summary() {
    const { summary, conversation } = this.call;
    const card = element("section", { className: "card" }, element("h3", {}, t("detail.summary.ended")));
    const sides = (summary ?? []).filter(({ scores }) => Object.keys(scores).length);
    const columns = element("div", { className: "summaries" });
    for (const { channel, role, scores, activation } of sides) {
      const bars = new Bars();
      bars.show(scores);
      const title = element("h4", {}, channelTitle(channel, role, false));
      const note = element("p", { className: "soft" }, activation === null ? "" : t("history.activation", { share: percent(activation) }));
      columns.append(element("div", {}, title, bars.node, note));
    }
    card.append(sides.length ? columns : element("p", { className: "soft" }, t("history.no_speech")));
    if (conversation) card.append(element("table", { className: "conversation" }, ...rowElements(conversationRows(conversation))));
    const notes = Object.entries(missing(this.call)).map(([reason, seconds]) =>
      element("li", {}, t("detail.gap", { s: seconds.toFixed(1), reason: textFor(`gap.${reason}`, reason) })),
    );
    if (notes.length) card.append(element("ul", { className: "notes" }, ...notes));
    return card;
  }

  #alerts() {
    const { alerts } = this.call;
    const list = element("ul", { className: "alerts" }, ...alerts.map((alert) => this.#alert(alert)));
    return element("section", { className: "card", hidden: !alerts.length }, element("h3", {}, t("alerts.title")), list);
  }

  #alert(alert) {
    const { evidence } = alert;
    const time = element("button", { type: "button", className: "small number" }, spanText(alert.start_s, alert.end_s));
    time.setAttribute("aria-label", t("history.go_to", { time: timestamp(alert.start_s, false) }));
    time.addEventListener("click", () => this.#show(alert.start_s));
    const scores = Object.entries(evidence?.scores ?? {})
      .sort((a, b) => b[1] - a[1])
      .slice(0, SHOWN_LABELS)
      .map(([label, share]) => `${labelName(label)} ${percent(share)}`);
    const parts = [
      element("span", { className: "severity" }, textFor(`severity.${alert.severity}`, alert.severity)),
      element("strong", {}, alert.rule),
      time,
      ...(evidence?.text ? [element("span", { lang: "en" }, evidence.text)] : []),
      element("span", { className: "soft" }, [alert.role && textFor(`role.${alert.role}`, alert.role), scores.join(", ")].filter(Boolean).join(" · ")),
    ];
    if (alert.acknowledged) parts.push(element("span", {}, acknowledgedText(alert.acknowledged)));
    const item = element("li", {}, ...parts);
    item.dataset.severity = alert.severity;
    return item;
  }

  #timelineCard() {
    const scene = {
      seconds: Math.max(this.call.duration_s, SHORTEST_S),
      channels: this.channels,
      labels: this.labels,
      mode: "utterances",
      waveform: false,
    };
    this.timeline = new UtteranceTimeline(scene, { seek: (seconds) => this.#seek(seconds), toggle: () => this.#showRow() });
    this.position = element("p", { className: "position" });
    const button = (text, action, label) => {
      const node = element("button", { type: "button", className: "small", onclick: action }, text);
      if (label) node.setAttribute("aria-label", label);
      return node;
    };
    return element(
      "section",
      { className: "card timeline-card" },
      element("h3", {}, t("panel.timeline")),
      element(
        "div",
        { className: "timeline-bar" },
        button("−", () => this.timeline.zoom(0.5), t("recordings.zoom_out")),
        button("+", () => this.timeline.zoom(2), t("recordings.zoom_in")),
        button(t("recordings.zoom_all"), () => this.timeline.showAll()),
      ),
      this.timeline.node,
      this.position,
      legend(this.labels, "legend history-legend"),
      element("p", { className: "soft keys-line" }, t("history.keys")),
    );
  }

  #utterances() {
    const { utterances } = this.call;
    const several = this.channels.length > 1;
    const weighted = utterances.some(({ baseline_weight: weight }) => weight);
    const list = [...utterances].sort((a, b) => a.start_s - b.start_s);
    const titles = [
      t("panel.time"), t("panel.length"), ...(several ? [t("history.column.role")] : []), t("panel.emotion"),
      t("history.column.activation"), ...(weighted ? [t("history.column.baseline")] : []), t("panel.hints"),
    ];
    const numbers = [t("panel.length"), t("history.column.activation"), t("history.column.baseline")];
    const body = element("tbody");
    const add = (from, to) => {
      for (const one of list.slice(from, to)) {
        const row = this.#utterance(one, several, weighted);
        this.#rows.push({ start: one.start_s, end: one.end_s, row });
        body.append(row);
      }
    };
    const head = element("thead", {}, element("tr", {}, ...titles.map((text) => element("th", { scope: "col", className: numbers.includes(text) ? "number" : "" }, text))));
    const wide = element("div", { className: "wide scroll", tabIndex: 0, role: "region" }, element("table", {}, head, body));
    wide.setAttribute("aria-label", t("panel.utterances"));
    add(0, FIRST_ROWS);
    if (list.length > FIRST_ROWS) {
      const all = element("button", { type: "button" }, t("recordings.all_rows", { n: list.length }));
      all.addEventListener("click", () => {
        add(FIRST_ROWS, list.length);
        all.remove();
        wide.focus();
      });
      wide.append(all);
    }
    const content = list.length ? wide : element("p", { className: "soft" }, t("history.no_speech"));
    return element("section", { className: "card utterances" }, element("h3", {}, t("panel.utterances")), content);
  }

  #utterance(one, several, weighted) {
    const time = element("button", { type: "button", className: "small number" }, timestamp(one.start_s, false));
    time.setAttribute("aria-label", t("history.go_to", { time: timestamp(one.start_s, false) }));
    time.addEventListener("click", () => this.#show(one.start_s));
    const number = (text) => element("td", { className: "number" }, text);
    return element(
      "tr",
      {},
      element("td", {}, time),
      number(`${(one.end_s - one.start_s).toFixed(1)} s`),
      ...(several ? [element("td", {}, channelTitle(one.channel, one.role, false))] : []),
      element("td", {}, sharesCell(one.scores)),
      number(one.activation === null ? "–" : percent(one.activation)),
      ...(weighted ? [number(percent(one.baseline_weight ?? 0))] : []),
      element("td", {}, one.hints.length ? hintList(one.hints) : "–"),
    );
  }

  /** Move the cursor to a time, and the drawing into view. */
  #show(seconds) {
    this.timeline.moveCursor(seconds, true);
    this.#seek(seconds);
    this.timeline.node.scrollIntoView({ block: "nearest" });
  }

  #seek(seconds) {
    this.#position = seconds;
    this.timeline.moveCursor(seconds, false);
    const text = positionText(this.channels, seconds);
    setText(this.position, text);
    this.timeline.describe(t("recordings.timeline.label"), text);
    for (const { start, end, row } of this.#rows) {
      if (start <= seconds && seconds < end) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }

  /** Move the focus to the row of the utterance at the cursor. */
  #showRow() {
    const found = this.#rows.find(({ start, end }) => start <= this.#position && this.#position < end);
    found?.row.querySelector("button").focus();
  }
}

/** Return the name of a file about a call, without its ending. */
export function fileName({ stream_id: id, started_at: started }) {
  const plain = id.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "call";
  return `${plain}-${started.slice(0, 10)}`;
}
