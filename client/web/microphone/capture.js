/** Why the microphone did not start or went away; `code` is one of `mic.fail.*`. */
export class CaptureFailure extends Error {
  constructor(code, message = "") {
    super(message || code);
    this.code = code;
  }
}

const PATIENCE = 5_000;
const REASONS = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** The microphones there are, `{ id, name }`; names are told only once one may be used. */
export async function microphones() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return all
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default")
    .map(({ deviceId, label }) => ({ id: deviceId, name: label }));
}

/** Call `changed` when a microphone comes or goes. */
export function onMicrophones(changed) {
  navigator.mediaDevices?.addEventListener?.("devicechange", changed);
}

/**
 * An open microphone: `heard({ pcm, level, peak })` is called with every 100 ms of 16 kHz
 * `Int16Array`, `lost()` when the device goes away.
 */
export class Capture {
  #stream;
  #context;
  #node;

  /** What the browser really gave; without anything that tells the device from others. */
  settings;

  constructor(stream, context, node, settings) {
    this.#stream = stream;
    this.#context = context;
    this.#node = node;
    this.settings = settings;
  }

  /** Raises `CaptureFailure`. Call it in answer to a press: browsers want that. */
  static async open({ device, echo, heard, lost }) {
    if (!globalThis.isSecureContext) throw new CaptureFailure("insecure");
    if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
      throw new CaptureFailure("unsupported");
    }
    const stream = await ask(device, echo);
    // The device's own rate: some browsers refuse to join a context of another one.
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
      await started(context);
      const node = new AudioWorkletNode(context, "emotide-capture", {
        numberOfOutputs: 0,
        channelCount: 1,
        channelCountMode: "explicit",
      });
      const [track] = stream.getAudioTracks();
      node.port.onmessage = ({ data }) => data.pcm && heard(data);
      track.addEventListener("ended", lost);
      context.createMediaStreamSource(stream).connect(node);
      return new Capture(stream, context, node, described(track.getSettings(), context));
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      // Not waited for: what did not start may not end either.
      context.close().catch(() => {});
      throw error instanceof CaptureFailure ? error : new CaptureFailure("other", error.message);
    }
  }

  /** Give the device back at once; resolves when the last samples were heard. */
  async stop() {
    const flushed = new Promise((resolve) => {
      const heard = this.#node.port.onmessage;
      this.#node.port.onmessage = (event) => (event.data.done ? resolve() : heard(event));
      setTimeout(resolve, 500);
    });
    this.#node.port.postMessage("flush");
    for (const track of this.#stream.getTracks()) track.stop();
    await flushed;
    await this.#context.close();
  }
}

/** Some browsers wait for ever where there is no sound output; nobody should wait with them. */
function started(context) {
  const late = (_, reject) => setTimeout(reject, PATIENCE, new CaptureFailure("audio"));
  return Promise.race([context.resume(), new Promise(late)]);
}

async function ask(device, echo) {
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
    throw new CaptureFailure(REASONS[error.name] ?? "other", error.message);
  }
}

function described(settings, context) {
  const { sampleRate, channelCount, autoGainControl, noiseSuppression, echoCancellation } = settings;
  const told = { sampleRate, channelCount, autoGainControl, noiseSuppression, echoCancellation };
  return { ...told, contextSampleRate: context.sampleRate };
}
