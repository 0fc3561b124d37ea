/** Error of a microphone that cannot be opened; `code` is one of `mic.fail.*`. */
export class CaptureError extends Error {
  constructor(code, message = "") {
    super(message || code);
    this.code = code;
  }
}

const START_MS = 5_000;
const FLUSH_MS = 500;
const RETRY_MS = 1_000;
/** Events after which an interrupted audio system may be started again. */
const RETURNS = ["focus", "pointerdown", "keydown", "visibilitychange"];
/** Error names of `getUserMedia`, and their codes. */
const CODES = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** Return the microphones as `{ id, name }`; names are empty until the user permits one. */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default")
    .map(({ deviceId, label }) => ({ id: deviceId, name: label }));
}

/** Call `listener` when a microphone is connected or disconnected. */
export function onMicrophones(listener) {
  navigator.mediaDevices?.addEventListener?.("devicechange", listener);
}

/**
 * An open microphone. `received({ pcm, level, peak })` is called with every 100 ms of 16 kHz
 * `Int16Array`, `lost()` when the device is disconnected, `interrupted(true)` when something else
 * takes the audio system, such as a phone call, and `interrupted(false)` when it is back.
 */
export class Capture {
  #stream;
  #context;
  #node;
  #stopped = false;
  #isInterrupted = false;
  #interrupted;
  #retry = 0;

  /** Settings that the browser applied, without anything that identifies the device. */
  settings;

  constructor(stream, context, node, settings, interrupted) {
    this.#stream = stream;
    this.#context = context;
    this.#node = node;
    this.settings = settings;
    this.#interrupted = interrupted;
    context.addEventListener("statechange", this.#check);
    // A browser may let a page continue only when its user returns to it.
    for (const event of RETURNS) addEventListener(event, this.#check);
    this.#check();
  }

  /** Report an interruption or its end, and ask for the audio system while it is not running. */
  #check = () => {
    if (this.#stopped) return;
    const { state } = this.#context;
    const isInterrupted = state !== "running";
    if (isInterrupted !== this.#isInterrupted) this.#interrupted((this.#isInterrupted = isInterrupted));
    if (!isInterrupted) return;
    // Refused as long as the interruption lasts; the next event tries again.
    this.#context.resume().catch(() => {});
    clearTimeout(this.#retry);
    this.#retry = setTimeout(this.#check, RETRY_MS);
  };

  /** Open a microphone; browsers allow that after a user gesture only. Throw `CaptureError`. */
  static async open({ device, echo, received, lost, interrupted }) {
    if (!globalThis.isSecureContext) throw new CaptureError("insecure");
    if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
      throw new CaptureError("unsupported");
    }
    const stream = await requestStream(device, echo);
    // The context has the device's own rate: some browsers refuse to connect different rates.
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
      await resumed(context);
      const node = new AudioWorkletNode(context, "emotide-capture", {
        numberOfOutputs: 0,
        channelCount: 1,
        channelCountMode: "explicit",
      });
      const [track] = stream.getAudioTracks();
      node.port.onmessage = ({ data }) => data.pcm && received(data);
      track.addEventListener("ended", lost);
      context.createMediaStreamSource(stream).connect(node);
      return new Capture(stream, context, node, appliedSettings(track.getSettings(), context), interrupted);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      // Not awaited: a context that did not start may never close.
      context.close().catch(() => {});
      throw error instanceof CaptureError ? error : new CaptureError("other", error.message);
    }
  }

  /** Release the device at once; resolve after the last samples were received. */
  async stop() {
    this.#stopped = true;
    clearTimeout(this.#retry);
    for (const event of RETURNS) removeEventListener(event, this.#check);
    const flushed = new Promise((resolve) => {
      const receive = this.#node.port.onmessage;
      this.#node.port.onmessage = (event) => (event.data.done ? resolve() : receive(event));
      setTimeout(resolve, FLUSH_MS);
    });
    this.#node.port.postMessage("flush");
    for (const track of this.#stream.getTracks()) track.stop();
    await flushed;
    // Not longer: an interrupted context may close only when the interruption ends.
    await Promise.race([this.#context.close(), new Promise((resolve) => setTimeout(resolve, FLUSH_MS))]);
  }
}

/** Wait until `context` runs; throw after 5 s, because Firefox waits forever without an output. */
function resumed(context) {
  const timeout = (_, reject) => setTimeout(reject, START_MS, new CaptureError("audio"));
  return Promise.race([context.resume(), new Promise(timeout)]);
}

async function requestStream(device, echo) {
  const audio = {
    channelCount: 1,
    autoGainControl: false,
    noiseSuppression: false,
    echoCancellation: echo,
    ...(device ? { deviceId: { exact: device } } : {}),
  };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new CaptureError(CODES[error.name] ?? "other", error.message);
  }
}

function appliedSettings(settings, context) {
  const { sampleRate, channelCount, autoGainControl, noiseSuppression, echoCancellation } = settings;
  const contextSampleRate = context.sampleRate;
  return { sampleRate, channelCount, autoGainControl, noiseSuppression, echoCancellation, contextSampleRate };
}
