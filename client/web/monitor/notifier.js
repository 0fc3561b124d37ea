import { onLanguage, t, textFor } from "../language.js";
import { element, setText, translated } from "../parts/dom.js";
import { roleName } from "../parts/labels.js";
import { FreshAlerts, inOneTab, storeChoices, storedChoices } from "./notifications.js";
import { nameOf } from "./streams.js";

/** Pitches of the sound by severity in Hz, one after the other. */
const PITCHES = { info: [660], warning: [660, 880], critical: [880, 660, 880] };
const TONE_S = 0.18;
const VOLUME = 0.2;

/** Sound and desktop notifications for alerts, with their switches. Both are off until switched on. */
export class Notifier {
  #choices = storedChoices();
  #fresh;
  #audio = null;

  /** `sub` is the id of the subscription with live events. */
  constructor(sub) {
    this.#fresh = new FreshAlerts(sub);
    this.sound = element("input", { type: "checkbox", name: "sound" });
    this.desktop = element("input", { type: "checkbox", name: "desktop" });
    this.note = element("p", { className: "soft", role: "status" });
    this.node = element(
      "details",
      { className: "notify" },
      translated("summary", "notify.title"),
      element(
        "div",
        { className: "choices card" },
        element("label", {}, this.sound, " ", translated("span", "notify.sound")),
        element("label", {}, this.desktop, " ", translated("span", "notify.desktop")),
        this.note,
      ),
    );
    // The permission may have been withdrawn since.
    if (globalThis.Notification?.permission !== "granted") this.#choices.desktop = false;
    this.desktop.disabled = !globalThis.Notification || !isSecureContext;
    this.sound.checked = this.#choices.sound;
    this.desktop.checked = this.#choices.desktop;
    this.sound.addEventListener("change", () => this.#chooseSound());
    this.desktop.addEventListener("change", () => this.#chooseDesktop());
    // A browser lets a page play sound only after the user has touched it.
    for (const name of ["pointerdown", "keydown"]) {
      addEventListener(name, () => this.#choices.sound && this.#openAudio(), { once: true });
    }
    onLanguage(() => this.#explain());
    this.#explain();
  }

  /** Give a signal for a message of the server if it is an alert that has just begun. */
  receive(message, now) {
    if (!this.#fresh.accepts(message, now)) return;
    if (this.#choices.sound || this.#choices.desktop) inOneTab(message.id, () => this.#signal(message));
  }

  #signal(alert) {
    if (this.#choices.sound) this.#play(alert.severity);
    if (this.#choices.desktop) this.#notify(alert);
  }

  #notify(alert) {
    const name = nameOf(alert);
    const severity = textFor(`severity.${alert.severity}`, alert.severity);
    const body = [name, alert.role && roleName(alert.role), alert.text].filter(Boolean).join(" · ");
    try {
      const shown = new Notification(`${severity}: ${alert.rule}`, { body, tag: alert.id, icon: "icon.svg", silent: true });
      shown.onclick = () => {
        focus();
        location.hash = `#monitor/${encodeURIComponent(name)}`;
        shown.close();
      };
    } catch {
      // Some mobile browsers have the class but let only service workers use it.
      this.#explain("notify.unavailable");
    }
  }

  #chooseSound() {
    this.#choices.sound = this.sound.checked;
    storeChoices(this.#choices);
    this.#explain();
    if (this.sound.checked) this.#play("info");
  }

  async #chooseDesktop() {
    const wanted = this.desktop.checked;
    const granted = wanted && (await Notification.requestPermission()) === "granted";
    this.desktop.checked = this.#choices.desktop = granted;
    storeChoices(this.#choices);
    this.#explain();
  }

  /** Explain why a signal cannot be given, or nothing. */
  #explain(key = null) {
    const denied = globalThis.Notification?.permission === "denied";
    const reason = key ?? (this.desktop.disabled ? "notify.unavailable" : denied ? "notify.denied" : null);
    setText(this.note, reason ? t(reason) : "");
  }

  #openAudio() {
    this.#audio ??= new AudioContext();
    if (this.#audio.state === "suspended") this.#audio.resume();
    return this.#audio;
  }

  #play(severity) {
    const audio = this.#openAudio();
    if (audio.state === "suspended") this.#explain("notify.touch");
    (PITCHES[severity] ?? PITCHES.warning).forEach((pitch, index) => {
      const start = audio.currentTime + index * TONE_S;
      const gain = new GainNode(audio, { gain: 0 });
      // Without a ramp at both ends, a tone begins and ends with a click.
      gain.gain.setValueAtTime(0, start);
      gain.gain.linearRampToValueAtTime(VOLUME, start + 0.02);
      gain.gain.linearRampToValueAtTime(0, start + TONE_S);
      const tone = new OscillatorNode(audio, { frequency: pitch });
      tone.connect(gain).connect(audio.destination);
      tone.start(start);
      tone.stop(start + TONE_S);
    });
  }
}
