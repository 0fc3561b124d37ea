import { server } from "../api.js";
import { EmotideError } from "../emotide.js";
import { t, textFor } from "../language.js";
import { Channel } from "../parts/channel.js";
import { roleName } from "../parts/labels.js";

const SILENCE_LEVEL = 1e-4;
const SILENT_MS = 4_000;
const NOTICE_MS = 6_000;

/** One stream of the microphone, from Start to its end. */
export class MicrophoneStream {
  over = false;
  #panel;
  #microphone = null;
  #channel = new Channel("speaker");
  #startedAt = null;
  #loudAt = Date.now();
  #reconnecting = false;
  #notice = null;
  /** The reason of an interruption: "audio", "device" or "muted"; or "". */
  #interruption = "";
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
    const streamId = `microphone-${Math.random().toString(36).slice(2, 6)}`;
    try {
      this.#microphone = await server().microphone({
        device: panel.controls.device.value,
        echoCancellation: panel.controls.echo.checked,
        analysis: { frames: true },
        stream_id: streamId,
        tags: ["microphone"],
        // The page informs the speaker above the button and while it runs.
        consent: { disclosed: true },
      });
    } catch (error) {
      if (!(error instanceof EmotideError)) throw error;
      return this.#fail(error.code, () => error.message);
    }
    this.#microphone.on("*", (event) => this.#received(event));
    panel.controls.listDevices();
    panel.showCaptureSettings(this.#microphone.settings);
    this.#startedAt = Date.now();
    this.#loudAt = Date.now();
    panel.started(streamId);
  }

  async stop() {
    if (this.over) return;
    this.#panel.controls.state = "stopping";
    const closed = await this.#microphone.close();
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
    if (this.#reconnecting) {
      const seconds = (this.#microphone.bufferedMs / 1000).toFixed(0);
      panel.showStatus(() => t("mic.reconnecting", { s: seconds }), "warning");
    } else if (this.#interruption) {
      const why = this.#interruption;
      panel.showStatus(() => t(`mic.interrupted.${why}`), "warning");
    } else if (this.#notice && now < this.#notice.until) {
      panel.showStatus(this.#notice.text, this.#notice.level);
    } else if (now - this.#loudAt > SILENT_MS) panel.showStatus(() => t("mic.silent"), "warning");
    else if (this.#channel.scoredAt === null) panel.showStatus(() => t("mic.listening"));
    else panel.showStatus(() => t("mic.on"));
  }

  #received(event) {
    const now = Date.now();
    switch (event.type) {
      case "client.level":
        if (event.rms > SILENCE_LEVEL) this.#loudAt = now;
        return this.#panel.controls.showLevel(event.rms);
      case "client.interrupted":
        this.#interruption = event.why;
        return;
      case "client.continued":
        return this.#continued(event.ms);
      case "client.connected":
        this.#reconnecting = false;
        return;
      case "client.reconnecting":
        this.#reconnecting = true;
        return;
      case "client.resumed":
        return this.#resumed(event.skipped_ms);
      case "client.restarted":
        this.#channel.continueWithNewSession();
        return this.#notify(() => textFor(`mic.restarted.${event.why}`, t("mic.restarted")), "warning");
      case "client.failed":
        return this.#fail(event.code, () => refusal(event.error));
    }
    if (event.ts === undefined) return;
    this.#clockOffset = Math.min(this.#clockOffset, now - Date.parse(event.ts));
    if (event.type === "warning") this.#panel.addWarning(event.code, event.message);
    else if (event.channel !== undefined) {
      this.#channel.apply(event, Math.min(now, Date.parse(event.ts) + this.#clockOffset));
    } else if (event.type === "session.closed" && !this.over) this.#closedByServer(event);
  }

  #continued(ms) {
    this.#interruption = "";
    this.#loudAt = Date.now();
    this.#panel.showCaptureSettings(this.#microphone.settings);
    const s = (ms / 1000).toFixed(0);
    this.#notify(() => t("mic.continued", { s }));
  }

  #resumed(skippedMs) {
    this.#reconnecting = false;
    const s = (skippedMs / 1000).toFixed(1);
    const text = () => (skippedMs ? t("mic.resumed.gap", { s }) : t("mic.resumed"));
    this.#notify(text, skippedMs ? "warning" : "");
  }

  #notify(text, level = "") {
    this.#notice = { text, level, until: Date.now() + NOTICE_MS };
  }

  /** End the stream after a close that the page did not request, such as a takeover. */
  #closedByServer(event) {
    if (this.#panel.controls.node.dataset.state !== "on") return;
    this.#end();
    this.#panel.showSummary(event, this.#channel);
  }

  /** End the stream with the text of `mic.fail.CODE`; `message()` is its `{message}`. */
  #fail(code, message = () => "") {
    if (this.over) return;
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
