import { t, textFor } from "../language.js";
import { Channel } from "../parts/channel.js";
import { roleName } from "../parts/labels.js";
import { Capture, CaptureError } from "./capture.js";
import { StreamConnection } from "./connection.js";

const RATE = 16_000;
const SILENCE_LEVEL = 1e-4;
const SILENT_MS = 4_000;
const NOTICE_MS = 6_000;

/** One stream of the microphone, from Start to its end. */
export class MicrophoneStream {
  over = false;
  #panel;
  #capture = null;
  #connection = null;
  #channel = new Channel("speaker");
  #startedAt = null;
  #loudAt = Date.now();
  #state = "";
  #notice = null;
  /** Time at which the microphone was interrupted, or null. */
  #interruptedAt = null;
  #clockOffset = Infinity;
  #resolveEnded;

  constructor(panel) {
    this.#panel = panel;
    this.#channel.keepMoreUtterances();
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
  }

  async start() {
    const panel = this.#panel;
    panel.starting();
    try {
      this.#capture = await Capture.open({
        device: panel.controls.device.value,
        echo: panel.controls.echo.checked,
        received: (chunk) => this.#send(chunk),
        lost: () => this.#fail("lost"),
        interrupted: (is) => this.#interrupted(is),
      });
    } catch (error) {
      if (!(error instanceof CaptureError)) throw error;
      return this.#fail(error.code, () => error.message);
    }
    const { settings } = this.#capture;
    panel.controls.listDevices();
    panel.showCaptureSettings(settings);
    const streamId = `microphone-${Math.random().toString(36).slice(2, 6)}`;
    this.#connection = new StreamConnection(
      {
        audio: { encoding: "linear16", sample_rate: RATE, channels: 1, roles: ["speaker"] },
        analysis: { frames: true },
        stream_id: streamId,
        tags: ["microphone"],
        attrs: { capture: settings },
        // The page informs the speaker above the button and while it runs.
        consent: { disclosed: true },
      },
      { received: (event) => this.#received(event), changed: (state, detail) => this.#changed(state, detail) },
    );
    this.#startedAt = Date.now();
    this.#loudAt = Date.now();
    panel.started(streamId);
    await this.#connection.open();
  }

  async stop() {
    if (this.over) return;
    this.#panel.controls.state = "stopping";
    // Release the device first: the user need not wait for the server to get it back.
    await this.#capture.stop();
    const closed = await this.#connection.close();
    if (this.over) return;
    this.draw(Date.now());
    this.#end();
    this.#panel.showSummary(closed, this.#channel);
  }

  /** Show the state at the time `now`. */
  draw(now) {
    if (!this.#startedAt) return;
    const panel = this.#panel;
    panel.showDuration(now - this.#startedAt);
    panel.channel.show(this.#channel, now);
    if (this.over) return;
    if (this.#state === "reconnecting") {
      const seconds = (this.#connection.buffered / RATE).toFixed(0);
      panel.showStatus(() => t("mic.reconnecting", { s: seconds }), "warning");
    } else if (this.#interruptedAt !== null) {
      panel.showStatus(() => t("mic.interrupted"), "warning");
    } else if (this.#notice && now < this.#notice.until) {
      panel.showStatus(this.#notice.text, this.#notice.level);
    } else if (now - this.#loudAt > SILENT_MS) panel.showStatus(() => t("mic.silent"), "warning");
    else if (this.#channel.scoredAt === null) panel.showStatus(() => t("mic.listening"));
    else panel.showStatus(() => t("mic.on"));
  }

  #send({ pcm, level }) {
    this.#connection?.send(pcm);
    if (level > SILENCE_LEVEL) this.#loudAt = Date.now();
    this.#panel.controls.showLevel(level);
  }

  #interrupted(is) {
    const now = Date.now();
    if (is) {
      this.#interruptedAt = now;
      this.#connection?.flush();
      return;
    }
    if (this.#interruptedAt === null) return;
    const ms = now - this.#interruptedAt;
    this.#connection?.skip(ms);
    this.#interruptedAt = null;
    this.#loudAt = now;
    const s = (ms / 1000).toFixed(0);
    this.#notice = { text: () => t("mic.continued", { s }), level: "", until: now + NOTICE_MS };
  }

  #received(event) {
    const now = Date.now();
    this.#clockOffset = Math.min(this.#clockOffset, now - Date.parse(event.ts));
    if (event.type === "warning") this.#panel.addWarning(event.code, event.message);
    else if (event.channel !== undefined) {
      this.#channel.apply(event, Math.min(now, Date.parse(event.ts) + this.#clockOffset));
    } else if (event.type === "session.closed" && !this.over) this.#closedByServer(event);
  }

  /** End the stream after a close that the page did not request: a limit, or a drain. */
  #closedByServer(event) {
    if (this.#panel.controls.node.dataset.state !== "on") return;
    this.#capture.stop();
    this.#end();
    this.#panel.showSummary(event, this.#channel);
  }

  #changed(state, detail) {
    this.#state = state;
    if (state === "failed") return this.#fail(detail.code, () => refusal(detail.error));
    const until = Date.now() + NOTICE_MS;
    if (state === "renewed") {
      const text = () => t(detail.code === "session_expired" ? "mic.renewed.longest" : "mic.renewed");
      this.#notice = { text, level: "warning", until };
      this.#channel.continueWithNewSession();
    }
    if (state === "resumed") {
      const { skipped_ms: skipped } = detail;
      const s = (skipped / 1000).toFixed(1);
      const text = () => (skipped ? t("mic.resumed.gap", { s }) : t("mic.resumed"));
      this.#notice = { text, level: skipped ? "warning" : "", until };
    }
  }

  /** End the stream with the text of `mic.fail.CODE`; `message()` is its `{message}`. */
  #fail(code, message = () => "") {
    if (this.over) return;
    this.#capture?.stop();
    this.#connection?.close();
    this.#end();
    this.#panel.showStatus(() => t(`mic.fail.${code}`, { message: message() }), "error");
  }

  #end() {
    this.over = true;
    this.#panel.stopped();
    this.#resolveEnded();
  }
}

/** Return the text of a refusal; for an unknown code the server's own message, in English. */
function refusal(error) {
  if (!error) return "";
  const { code, message, values = {} } = error;
  return textFor(`mic.refused.${code}`, message, { roles: values.roles?.map(roleName).join(", ") });
}
