import { t } from "../language.js";
import { element, say } from "../parts/dom.js";
import { sign, name, tone } from "../parts/labels.js";
import { advice } from "./doubts.js";
import { Files, Gone, downloads } from "./downloads.js";
import { journal } from "./journal.js";
import { moment } from "./lanes.js";
import { picture } from "./picture.js";
import { Player } from "./player.js";
import { framesOf, labelsOf, lanes } from "./sounds.js";
import { numbers, utterances } from "./tables.js";
import { Timeline, whereabouts } from "./timeline.js";
import { verdict } from "./verdict.js";
import { peaks } from "./wave.js";

const AUDIO = "processed_audio.wav";
const RESULT = "result.json";

/** Everything about one finished recording. */
export class Opened {
  #player;
  #timeline;
  #whole;
  #lanes;
  #closed = false;

  constructor(job) {
    this.job = job;
    const { result } = job;
    this.#whole = result;
    this.files = (job.fetched ??= new Files(job.files));
    this.#lanes = lanes(result);
    this.mode = result.options.granularity === "frame" ? "stacked" : "utterances";
    const scene = {
      seconds: Math.max(result.file.duration_s, 0.1),
      channels: this.#lanes,
      labels: labelsOf(result.model),
      mode: this.mode,
    };
    this.#player = new Player(() => this.#follow());
    this.#timeline = new Timeline(scene, {
      seek: (seconds) => this.#player.seek(seconds),
      toggle: () => this.#player.toggle(),
    });
    this.node = element(
      "section",
      { className: "opened" },
      element("h2", { tabIndex: -1 }, job.name),
      this.#facts(),
      element("div", { className: "verdicts" }, ...result.channels.map((one) => verdict(one, result, "h3"))),
      advice(job),
      this.#course(),
      this.#table(),
      downloads(job, this.files, () => picture(job, this.#timeline)),
      journal(job),
    );
    this.#follow();
    this.#fetch();
  }

  close() {
    this.#closed = true;
    this.#player.close();
    this.#timeline.close();
  }

  #facts() {
    const { file, options, timings, model } = this.job.result;
    const facts = [
      `${moment(file.duration_s)} `,
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

  #course() {
    const button = (label, act, hint = "") => {
      const made = element("button", { type: "button", onclick: act }, label);
      if (hint) made.setAttribute("aria-label", hint);
      return made;
    };
    this.play = button("▶", () => this.#player.toggle(), t("recordings.play"));
    this.play.className = "main play";
    this.play.disabled = true;
    this.time = element("span", { className: "number time" });
    this.where = element("p", { className: "where" });
    this.trouble = element("p", { className: "trouble", role: "alert" });
    this.instead = element("div", { hidden: true });
    const swap = button(t("recordings.as_table"), () => this.#swap(swap));
    swap.setAttribute("aria-pressed", "false");
    this.modes = element("span", { className: "switch", role: "group", hidden: this.mode === "utterances" });
    this.modes.setAttribute("aria-label", t("recordings.mode"));
    for (const mode of ["stacked", "lines", "utterances"]) {
      const made = button(t(`recordings.mode.${mode}`), () => this.#show(mode));
      made.dataset.mode = mode;
      made.setAttribute("aria-pressed", mode === this.mode);
      this.modes.append(made);
    }
    const legend = element("ul", { className: "legend" });
    for (const label of labelsOf(this.job.result.model)) {
      const swatch = element("span", { className: `fill ${tone(label)}`, ariaHidden: "true" });
      legend.append(element("li", {}, swatch, `${sign(label)} ${name(label)}`));
    }
    return element(
      "section",
      { className: "card course" },
      element("h3", {}, t("recordings.course")),
      element(
        "div",
        { className: "course-bar" },
        this.play,
        this.time,
        element("span", { className: "space" }),
        this.modes,
        button("−", () => this.#timeline.zoom(0.5), t("recordings.zoom_out")),
        button("+", () => this.#timeline.zoom(2), t("recordings.zoom_in")),
        button(t("recordings.zoom_whole"), () => this.#timeline.whole()),
        swap,
      ),
      this.#timeline.node,
      this.instead,
      this.where,
      legend,
      element("p", { className: "soft small", hidden: this.mode === "utterances" }, t("recordings.smoothed")),
      element("p", { className: "soft keys" }, t("recordings.keys")),
      this.trouble,
    );
  }

  #table() {
    const { result } = this.job;
    const spoken = result.channels.some(({ utterances: all }) => all.length);
    const part = (start, end) => this.#player.part(start, end);
    return element(
      "section",
      { className: "card", hidden: !spoken },
      element("h3", {}, t("recordings.utterances")),
      utterances(result, part),
    );
  }

  /** The sound, its waveform and the frames, which come after the words. */
  async #fetch() {
    const framed = this.mode !== "utterances" && this.files.has(RESULT);
    try {
      const [audio, whole] = await Promise.all([
        this.files.blob(AUDIO),
        framed && this.files.blob(RESULT).then((blob) => blob.text()).then(JSON.parse),
      ]);
      const wave = await peaks(audio);
      if (this.#closed) return;
      this.#whole = whole || this.job.result;
      this.#lanes = lanes(this.job.result, wave.channels, framesOf(this.#whole));
      this.#timeline.change({ channels: this.#lanes, seconds: wave.seconds || this.job.result.file.duration_s });
      this.#player.load(audio);
      this.play.disabled = false;
      this.node.dataset.complete = "true";
    } catch (error) {
      this.trouble.textContent = t(`recordings.audio_${error instanceof Gone ? "gone" : "failed"}`);
    }
  }

  #follow() {
    const at = this.#player.at;
    const { playing } = this.#player;
    say(this.play, playing ? "❚❚" : "▶");
    const act = t(playing ? "recordings.pause" : "recordings.play");
    if (this.play.getAttribute("aria-label") !== act) this.play.setAttribute("aria-label", act);
    say(this.time, `${moment(at)} / ${moment(this.job.result.file.duration_s)}`);
    this.#timeline.place(at, playing);
    const where = whereabouts(this.#lanes, at);
    say(this.where, where);
    this.#timeline.describe(t("recordings.timeline"), where);
  }

  #show(mode) {
    this.mode = mode;
    for (const button of this.modes.children) {
      button.setAttribute("aria-pressed", button.dataset.mode === mode);
    }
    this.#timeline.change({ mode });
    if (!this.instead.hidden) this.instead.replaceChildren(numbers(this.#whole, mode));
  }

  #swap(button) {
    const table = this.instead.hidden;
    this.instead.hidden = !table;
    this.#timeline.node.hidden = table;
    button.setAttribute("aria-pressed", table);
    this.instead.replaceChildren(...(table ? [numbers(this.#whole, this.mode)] : []));
  }
}
