import { t } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { listMicrophones, onMicrophones } from "../emotide.js";

const LOWEST_DB = -60;

/** Start button, device, echo cancellation and level meter; `pressed()` is called on the button. */
export class Controls {
  #state = "off";

  constructor(pressed) {
    this.button = element("button", { type: "button", className: "mic-button", onclick: pressed });
    this.button.append(
      element("span", { className: "lamp", ariaHidden: "true" }),
      (this.buttonText = element("span")),
    );
    this.device = element("select", { id: "device" });
    this.deviceLabel = element("label", { htmlFor: "device" });
    this.echo = element("input", { type: "checkbox", id: "echo" });
    this.echo.setAttribute("aria-describedby", "echo-note");
    this.echoLabel = element("label", { htmlFor: "echo" });
    this.echoNote = element("p", { className: "soft", id: "echo-note" });
    this.levelLabel = element("span", { id: "level-label" });
    this.fill = element("span", { className: "level-fill" });
    this.meter = element("div", { className: "level" }, this.fill);
    this.meter.setAttribute("role", "meter");
    this.meter.setAttribute("aria-labelledby", "level-label");
    this.meter.setAttribute("aria-valuemin", LOWEST_DB);
    this.meter.setAttribute("aria-valuemax", 0);
    this.value = element("span", { className: "number soft" });
    this.node = element(
      "div",
      { className: "controls" },
      this.button,
      element(
        "div",
        { className: "settings" },
        element("div", { className: "field" }, this.deviceLabel, this.device),
        element("div", { className: "check" }, this.echo, this.echoLabel, this.echoNote),
        element("div", { className: "field" }, this.levelLabel, this.meter, this.value),
      ),
    );
    onMicrophones(() => this.listDevices());
    this.showLevel(0);
    this.showTexts();
    this.listDevices();
  }

  /** Set the state: "off", "starting", "on" or "stopping". */
  set state(state) {
    this.#state = state;
    this.node.dataset.state = state;
    const running = state === "on";
    this.button.disabled = state === "starting" || state === "stopping";
    this.device.disabled = this.echo.disabled = state !== "off";
    const texts = { off: "mic.start", starting: "mic.starting", on: "mic.stop", stopping: "mic.stopping" };
    setText(this.buttonText, t(texts[state]));
    if (!running) this.showLevel(0);
  }

  /** Show the level of the newest chunk: RMS relative to full scale, 0 to 1. */
  showLevel(rms) {
    const db = rms > 0 ? Math.max(LOWEST_DB, 20 * Math.log10(rms)) : LOWEST_DB;
    const text = t("mic.level.value", { db: Math.round(db) });
    this.fill.style.setProperty("--level", 1 - db / LOWEST_DB);
    this.meter.setAttribute("aria-valuenow", Math.round(db));
    this.meter.setAttribute("aria-valuetext", text);
    setText(this.value, rms > 0 ? text : "");
  }

  async listDevices() {
    const microphones = await listMicrophones();
    const chosen = this.device.value;
    const options = [{ id: "", name: t("mic.device.default") }, ...microphones].map(({ id, name }, number) =>
      element("option", { value: id }, name || `${t("mic.device")} ${number}`),
    );
    this.device.replaceChildren(...options);
    if (microphones.some(({ id }) => id === chosen)) this.device.value = chosen;
  }

  showTexts() {
    setText(this.deviceLabel, t("mic.device"));
    setText(this.echoLabel, t("mic.echo"));
    setText(this.echoNote, t("mic.echo.note"));
    setText(this.levelLabel, t("mic.level"));
    this.state = this.#state;
    this.listDevices();
  }
}
