import { onLanguage } from "../language.js";
import { MicrophoneStream } from "./stream.js";
import { Panel } from "./panel.js";

const DRAW_MS = 200;
const CALM_DRAW_MS = 1_000;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** Show the microphone view in `node`. A stream continues while other views are shown. */
export function mount(node) {
  const panel = new Panel(() => (stream ? stream.stop() : start()));
  node.append(panel.node);
  let stream = null;
  let shown = false;

  async function start() {
    stream = new MicrophoneStream(panel);
    await stream.start();
    if (stream.over) stream = null;
    stream?.ended.then(() => (stream = null));
  }

  function draw() {
    if (!shown) return;
    if (!document.hidden) stream?.draw(Date.now());
    setTimeout(draw, reducedMotion.matches ? CALM_DRAW_MS : DRAW_MS);
  }

  onLanguage(() => panel.showTexts());
  return {
    show() {
      if (shown) return;
      shown = true;
      draw();
    },
    hide() {
      shown = false;
    },
  };
}
