import { onLanguage } from "../language.js";
import { Page } from "./page.js";
import { Run } from "./run.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show the microphone in `node`: press, speak, see. It goes on while other views are shown. */
export function mount(node) {
  const page = new Page(() => (run ? run.stop() : start()));
  node.append(page.node);
  let run = null;
  let shown = false;

  async function start() {
    run = new Run(page);
    await run.start();
    if (run.over) run = null;
    run?.ended.then(() => (run = null));
  }

  function tick() {
    if (!shown) return;
    if (!document.hidden) run?.draw(Date.now());
    setTimeout(tick, calm.matches ? 1000 : 200);
  }

  onLanguage(() => page.speak());
  return {
    show() {
      if (shown) return;
      shown = true;
      tick();
    },
    hide() {
      shown = false;
    },
  };
}
