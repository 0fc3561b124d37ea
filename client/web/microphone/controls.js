import { t } from "../language.js";
import { element, say } from "../parts/dom.js";
import { microphones, onMicrophones } from "./capture.js";

const FLOOR = -60;

/** The button, the device, echo cancellation, and the level; `pressed()` is called. */
export class Controls {
  #state = "off";

  constructor(pressed) {
    this.button = element("button", { type: "button", className: "record", onclick: pressed });
    this.button.append(
      element("span", { className: "lamp", ariaHidden: "true" }),
      (this.word = element("span")),
    );
    this.device = element("select", { id: "device" });
    this.deviceWord = element("label", { htmlFor: "device" });
    this.echo = element("input", { type: "checkbox", id: "echo" });
    this.echo.setAttribute("aria-describedby", "echo-why");
    this.echoWord = element("label", { htmlFor: "echo" });
    this.why = element("p", { className: "soft", id: "echo-why" });
    this.levelWord = element("span", { id: "level-word" });
    this.fill = element("span", { className: "level-fill" });
    this.meter = element("div", { className: "level" }, this.fill);
    this.meter.setAttribute("role", "meter");
    this.meter.setAttribute("aria-labelledby", "level-word");
    this.meter.setAttribute("aria-valuemin", FLOOR);
    this.meter.setAttribute("aria-valuemax", 0);
    this.value = element("span", { className: "number soft" });
    this.node = element(
      "div",
      { className: "controls" },
      this.button,
      element(
        "div",
        { className: "settings" },
        element("div", { className: "field" }, this.deviceWord, this.device),
        element("div", { className: "check" }, this.echo, this.echoWord, this.why),
        element("div", { className: "field" }, this.levelWord, this.meter, this.value),
      ),
    );
    onMicrophones(() => this.list());
    this.level(0);
    this.speak();
    this.list();
  }

  /** "off", "starting", "on" or "stopping". */
  set state(state) {
    this.#state = state;
    this.node.dataset.state = state;
    const running = state === "on";
    this.button.disabled = state === "starting" || state === "stopping";
    this.device.disabled = this.echo.disabled = state !== "off";
    const words = { off: "mic.start", starting: "mic.starting", on: "mic.stop", stopping: "mic.stopping" };
    say(this.word, t(words[state]));
    if (!running) this.level(0);
  }

  /** Show the level of the newest sound, RMS of full scale. */
  level(rms) {
    const db = rms > 0 ? Math.max(FLOOR, 20 * Math.log10(rms)) : FLOOR;
    const told = t("mic.level.value", { db: Math.round(db) });
    this.fill.style.setProperty("--level", 1 - db / FLOOR);
    this.meter.setAttribute("aria-valuenow", Math.round(db));
    this.meter.setAttribute("aria-valuetext", told);
    say(this.value, rms > 0 ? told : "");
  }

  /** List the microphones there are. */
  async list() {
    const found = await microphones();
    const chosen = this.device.value;
    const options = [{ id: "", name: t("mic.device.default") }, ...found].map(({ id, name }, number) =>
      element("option", { value: id }, name || `${t("mic.device")} ${number}`),
    );
    this.device.replaceChildren(...options);
    if (found.some(({ id }) => id === chosen)) this.device.value = chosen;
  }

  speak() {
    say(this.deviceWord, t("mic.device"));
    say(this.echoWord, t("mic.echo"));
    say(this.why, t("mic.echo.why"));
    say(this.levelWord, t("mic.level"));
    this.state = this.#state;
    this.list();
  }
}
