import { known, t } from "../language.js";
import { Channel } from "../parts/channel.js";
import { roleName } from "../parts/labels.js";
import { Capture, CaptureFailure } from "./capture.js";
import { Uplink } from "./uplink.js";

const RATE = 16_000;
const SILENCE = 1e-4;
const SILENT_FOR = 4_000;
const MESSAGE_FOR = 6_000;

/** One press of Start to the end of its stream. */
export class Run {
  over = false;
  #capture = null;
  #uplink = null;
  #channel = new Channel("speaker");
  #began = null;
  #loud = Date.now();
  #state = "";
  #note = null;
  #stream = null;
  #skew = Infinity;

  constructor(page) {
    this.page = page;
    this.#channel.keepMore();
    this.ended = new Promise((resolve) => (this.#finished = resolve));
  }

  #finished;

  async start() {
    const { page } = this;
    page.begin();
    try {
      this.#capture = await Capture.open({
        device: page.controls.device.value,
        echo: page.controls.echo.checked,
        heard: (sound) => this.#sound(sound),
        lost: () => this.#fail("lost"),
      });
    } catch (error) {
      if (!(error instanceof CaptureFailure)) throw error;
      return this.#fail(error.code, () => error.message);
    }
    const { settings } = this.#capture;
    page.controls.list();
    page.capture(settings);
    this.#stream = `microphone-${Math.random().toString(36).slice(2, 6)}`;
    this.#uplink = new Uplink(
      {
        audio: { encoding: "linear16", sample_rate: RATE, channels: 1, roles: ["speaker"] },
        analysis: { frames: true },
        stream_id: this.#stream,
        tags: ["microphone"],
        attrs: { capture: settings },
        // True: the page says so above the button, and while it runs.
        consent: { disclosed: true },
      },
      { heard: (event) => this.#heard(event), changed: (state, detail) => this.#changed(state, detail) },
    );
    this.#began = Date.now();
    this.#loud = Date.now();
    page.on(this.#stream);
    await this.#uplink.open();
  }

  async stop() {
    if (this.over) return;
    this.page.controls.state = "stopping";
    // The device first: nobody has to wait for the server to have the microphone back.
    await this.#capture.stop();
    const closed = await this.#uplink.close();
    if (this.over) return;
    this.draw(Date.now());
    this.#finish();
    this.page.done(closed, this.#channel);
  }

  /** Show what is known `now`. */
  draw(now) {
    if (!this.#began) return;
    const { page } = this;
    page.time(now - this.#began);
    page.panel.show(this.#channel, now);
    if (this.over) return;
    if (this.#state === "reconnecting") {
      const seconds = (this.#uplink.held / RATE).toFixed(0);
      page.tell(() => t("mic.reconnecting", { s: seconds }), "warn");
    } else if (this.#note && now < this.#note.until) page.tell(this.#note.text, this.#note.tone);
    else if (now - this.#loud > SILENT_FOR) page.tell(() => t("mic.silent"), "warn");
    else if (this.#channel.heard === null) page.tell(() => t("mic.listening"));
    else page.tell(() => t("mic.on"));
  }

  #sound({ pcm, level }) {
    this.#uplink?.send(pcm);
    if (level > SILENCE) this.#loud = Date.now();
    this.page.controls.level(level);
  }

  #heard(event) {
    const now = Date.now();
    this.#skew = Math.min(this.#skew, now - Date.parse(event.ts));
    if (event.type === "warning") this.page.warn(event.code, event.message);
    else if (event.channel !== undefined) this.#channel.take(event, Math.min(now, Date.parse(event.ts) + this.#skew));
    else if (event.type === "session.closed" && !this.over) this.#closedByServer(event);
  }

  /** The server ends a stream on its own when it is too old, or drains. */
  #closedByServer(event) {
    if (this.page.controls.node.dataset.state !== "on") return;
    this.#capture.stop();
    this.#finish();
    this.page.done(event, this.#channel);
  }

  #changed(state, detail) {
    this.#state = state;
    if (state === "failed") return this.#fail(detail.code, () => refusal(detail.error));
    const until = Date.now() + MESSAGE_FOR;
    if (state === "renewed") this.#note = { text: () => t("mic.renewed"), tone: "warn", until };
    if (state === "resumed") {
      const { skipped_ms: skipped } = detail;
      const s = (skipped / 1000).toFixed(1);
      const text = () => (skipped ? t("mic.resumed.gap", { s }) : t("mic.resumed"));
      this.#note = { text, tone: skipped ? "warn" : "", until };
    }
  }

  /** `message()` is what the words for `code` may quote, asked again in another language. */
  #fail(code, message = () => "") {
    if (this.over) return;
    this.#capture?.stop();
    this.#uplink?.close();
    this.#finish();
    this.page.tell(() => t(`mic.fail.${code}`, { message: message() }), "bad");
  }

  #finish() {
    this.over = true;
    this.page.off();
    this.#finished();
  }
}

/** Why the server refuses, in the page's words; in its own, which are English, if it has none. */
function refusal(error) {
  if (!error) return "";
  const { code, message, values = {} } = error;
  return known(`mic.refused.${code}`, message, { roles: values.roles?.map(roleName).join(", ") });
}
