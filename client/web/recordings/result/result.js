import { feedbackOffer } from "../../api.js";
import { t } from "../../language.js";
import { element, setText } from "../../parts/dom.js";
import { timestamp } from "../../parts/format.js";
import { sortLabels } from "../../parts/labels.js";
import { legend } from "../../parts/legend.js";
import { markControl } from "../../parts/mark.js";
import { UtteranceTimeline, positionText } from "../../parts/utterance-timeline.js";
import { log } from "../log.js";
import { FileDeleted, ResultFiles, downloads } from "../transfer/downloads.js";
import { caveats } from "./caveats.js";
import { exportPng } from "./export-png.js";
import { resultFrames, timelineChannels } from "./model.js";
import { Player } from "./player.js";
import { shareTable, utteranceTable } from "./tables.js";
import { trialsCard } from "./trials.js";
import { verdict } from "./verdict.js";
import { readPeaks } from "./waveform.js";

const AUDIO = "processed_audio.wav";
const RESULT = "result.json";
const SHORTEST_S = 0.1;
const MODES = ["stacked", "lines", "utterances"];

/** The result of one recording. */
export class Result {
  #player;
  #timeline;
  #completeResult;
  #channels;
  #destroyed = false;

  constructor(job) {
    this.job = job;
    const { result } = job;
    this.#completeResult = result;
    this.files = (job.resultFiles ??= new ResultFiles(job.files));
    this.#channels = timelineChannels(result);
    this.mode = result.options.granularity === "frame" ? "stacked" : "utterances";
    const scene = {
      seconds: Math.max(result.file.duration_s, SHORTEST_S),
      channels: this.#channels,
      labels: sortLabels(result.model.labels),
      mode: this.mode,
    };
    this.#player = new Player(() => this.#showPosition());
    this.#timeline = new UtteranceTimeline(scene, {
      seek: (seconds) => this.#player.seek(seconds),
      toggle: () => this.#player.toggle(),
    });
    this.node = element(
      "section",
      { className: "result" },
      element("h2", { tabIndex: -1 }, job.name),
      this.#facts(),
      element("div", { className: "verdicts" }, ...result.channels.map((channel) => verdict(channel, result))),
      caveats(job),
      this.#timelineCard(),
      trialsCard(result, (start, end) => this.#player.playSpan(start, end)),
      this.#utteranceCard(),
      downloads(job, this.files, () => exportPng(job, this.#timeline)),
      log(job),
    );
    this.#showPosition();
    this.#fetchAudio();
  }

  destroy() {
    this.#destroyed = true;
    this.#player.destroy();
    this.#timeline.destroy();
  }

  #facts() {
    const { file, options, timings, model } = this.job.result;
    const facts = [
      timestamp(file.duration_s),
      [file.container, file.codec].filter(Boolean).join(" / "),
      `${(file.sample_rate / 1000).toFixed(1).replace(".0", "")} kHz`,
      t("recordings.channels", { n: file.channels }),
      t(`recordings.option.${options.granularity}`),
      options.denoise ? t("recordings.option.denoise") : "",
      model.id,
      timings.speed ? t("recordings.speed", { n: Math.round(timings.speed) }) : "",
    ];
    const list = element("ul", { className: "tags" });
    list.append(...facts.filter(Boolean).map((fact) => element("li", { className: "tag" }, fact)));
    return list;
  }

  #timelineCard() {
    const button = (text, action, label = "") => {
      const node = element("button", { type: "button", onclick: action }, text);
      if (label) node.setAttribute("aria-label", label);
      return node;
    };
    this.play = button("▶", () => this.#player.toggle(), t("recordings.play"));
    this.play.className = "main play";
    this.play.disabled = true;
    this.time = element("span", { className: "number time" });
    this.position = element("p", { className: "position" });
    this.error = element("p", { className: "trouble", role: "alert" });
    this.table = element("div", { hidden: true });
    const tableButton = button(t("recordings.as_table"), () => this.#toggleTable(tableButton));
    tableButton.setAttribute("aria-pressed", "false");
    const framesHidden = this.mode === "utterances";
    this.modes = element("span", { className: "switch", role: "group", hidden: framesHidden });
    this.modes.setAttribute("aria-label", t("recordings.mode"));
    for (const mode of MODES) {
      const modeButton = button(t(`recordings.mode.${mode}`), () => this.#setMode(mode));
      modeButton.dataset.mode = mode;
      modeButton.setAttribute("aria-pressed", mode === this.mode);
      this.modes.append(modeButton);
    }
    return element(
      "section",
      { className: "card timeline-card" },
      element("h3", {}, t("recordings.timeline")),
      element(
        "div",
        { className: "timeline-bar" },
        this.play,
        this.time,
        element("span", { className: "space" }),
        this.modes,
        button("−", () => this.#timeline.zoom(0.5), t("recordings.zoom_out")),
        button("+", () => this.#timeline.zoom(2), t("recordings.zoom_in")),
        button(t("recordings.zoom_all"), () => this.#timeline.showAll()),
        tableButton,
      ),
      this.#timeline.node,
      this.table,
      this.position,
      legend(sortLabels(this.job.result.model.labels)),
      element("p", { className: "soft small", hidden: framesHidden }, t("recordings.smoothed")),
      element("p", { className: "soft keys" }, t("recordings.keys")),
      this.error,
    );
  }

  #utteranceCard() {
    const { result } = this.job;
    const empty = result.channels.every(({ utterances }) => !utterances.length);
    return element(
      "section",
      { className: "card", hidden: empty },
      element("h3", {}, t("recordings.utterances")),
      utteranceTable(result, (start, end) => this.#player.playSpan(start, end), this.#marker()),
    );
  }

  /** Return a function that returns the control of an utterance, or null if none may be marked. */
  #marker() {
    if (!feedbackOffer() || !this.job.fileId) return null;
    return (channel, { utterance, start_s: start }) =>
      markControl({ recording_id: this.job.fileId, channel: channel.channel, utterance }, timestamp(start));
  }

  /** Fetch the audio for waveform and playback, and the frames, which are only in result.json. */
  async #fetchAudio() {
    const withFrames = this.mode !== "utterances" && this.files.has(RESULT);
    try {
      const [audio, completeResult] = await Promise.all([
        this.files.blob(AUDIO),
        withFrames && this.files.blob(RESULT).then((blob) => blob.text()).then(JSON.parse),
      ]);
      const peaks = await readPeaks(audio);
      if (this.#destroyed) return;
      const { result } = this.job;
      this.#completeResult = completeResult || result;
      this.#channels = timelineChannels(result, peaks.channels, resultFrames(this.#completeResult));
      this.#timeline.update({ channels: this.#channels, seconds: peaks.seconds || result.file.duration_s });
      this.#player.load(audio);
      this.play.disabled = false;
      this.node.dataset.complete = "true";
    } catch (error) {
      this.error.textContent = t(`recordings.audio_${error instanceof FileDeleted ? "deleted" : "failed"}`);
    }
  }

  /** Show the state and the position of the player. */
  #showPosition() {
    const { playing, position } = this.#player;
    setText(this.play, playing ? "❚❚" : "▶");
    const label = t(playing ? "recordings.pause" : "recordings.play");
    if (this.play.getAttribute("aria-label") !== label) this.play.setAttribute("aria-label", label);
    setText(this.time, `${timestamp(position)} / ${timestamp(this.job.result.file.duration_s)}`);
    this.#timeline.moveCursor(position, playing);
    const text = positionText(this.#channels, position);
    setText(this.position, text);
    this.#timeline.describe(t("recordings.timeline.label"), text);
  }

  #setMode(mode) {
    this.mode = mode;
    for (const button of this.modes.children) {
      button.setAttribute("aria-pressed", button.dataset.mode === mode);
    }
    this.#timeline.update({ mode });
    if (!this.table.hidden) this.table.replaceChildren(shareTable(this.#completeResult, mode));
  }

  #toggleTable(button) {
    const asTable = this.table.hidden;
    this.table.hidden = !asTable;
    this.#timeline.node.hidden = asTable;
    button.setAttribute("aria-pressed", asTable);
    this.table.replaceChildren(...(asTable ? [shareTable(this.#completeResult, this.mode)] : []));
  }
}
