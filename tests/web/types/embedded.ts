// A page that embeds emotide.js, as TypeScript has to accept it. Lines below `@ts-expect-error` are
// mistakes that it has to find. `make peers` compiles this file.

import {
  Emotide,
  EmotideError,
  listMicrophones,
  type Label,
  type Microphone,
  type SessionClosed,
} from "../../../client/web/emotide.js";

const emotide = new Emotide({ url: "https://emotide.example", ticket: async () => null });

export async function start(shown: HTMLElement): Promise<Microphone> {
  const [first] = await listMicrophones();
  const microphone = await emotide.microphone({
    device: first?.id,
    stream_id: "desk-7",
    tags: ["queue:billing"],
    analysis: { interval_ms: 500 },
    consent: { disclosed: true },
  });
  const end = microphone.on("emotion.score", ({ top, rolling, activation }) => {
    const label: Label | undefined = top?.label;
    const share: number = rolling["10s"]?.angry ?? 0;
    shown.textContent = `${label} ${share} ${activation?.toFixed(2)}`;
  });
  microphone.on("client.level", ({ rms }) => rms.toFixed(2));
  microphone.on("client.failed", ({ code, error }) => code === "refused" && error?.message);
  microphone.on("*", (event) => {
    if (event.type === "alert") event.rule.toUpperCase();
  });
  end();
  // @ts-expect-error An event that does not exist.
  microphone.on("emotion.scores", () => {});
  // @ts-expect-error A setting that does not exist.
  await emotide.microphone({ streamId: "desk-7" });
  return microphone;
}

export function watch(): () => void {
  const subscriber = emotide.subscribe({ filter: { tags: ["queue:billing"] }, rate_hz: 1 }, (event) => {
    if (event.type === "snapshot") event.streams.map(({ stream_id }) => stream_id);
    if (event.type === "client.reconnecting") event.delay_s.toFixed(1);
  });
  subscriber.on("emotion.segment", ({ scores }) => scores.sad);
  return () => subscriber.close();
}

export async function play(samples: Int16Array): Promise<number> {
  const stream = emotide.stream({ audio: { sample_rate: 8_000, channels: 2, roles: ["customer", "agent"] } });
  stream.send(samples);
  // @ts-expect-error Audio is 16-bit.
  stream.send(new Float32Array(8));
  stream.command({ type: "input.flush" });
  const closed: SessionClosed | null = await stream.close();
  return closed?.totals.speech_ms ?? 0;
}

export const explain = (error: unknown): string =>
  error instanceof EmotideError && error.code === "denied" ? "Allow the microphone." : "";
