// Sends a WAV file (16 bit) as if it were live and prints its utterances. Node 22 or newer:
//   node examples/node-client.mjs recording.wav http://127.0.0.1:8765
// (Node 20 needs --experimental-websocket). A server with keys: EMOTIDE_KEY=…

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Emotide } from "../client/web/emotide.js"; // from npm: "emotide"

const [path, url = "http://127.0.0.1:8765"] = process.argv.slice(2);
const { sample_rate, channels, samples } = readWav(readFileSync(path));
const emotide = new Emotide({ url, key: process.env.EMOTIDE_KEY });

const call = emotide.stream({ audio: { sample_rate, channels }, tags: ["node"] });
call.on("emotion.segment", ({ channel, audio_start_ms, top, hints }) =>
  console.log(`${(audio_start_ms / 1000).toFixed(1)} s`, channel, top?.label ?? "-", top?.score ?? "", hints.join(",")));
call.on("client.reconnecting", ({ why, delay_s }) => console.error(`connection lost (${why}), again in ${delay_s} s`));
call.on("client.failed", ({ message }) => {
  console.error(message);
  process.exit(1);
});

const chunk = Math.round(sample_rate / 10) * channels;
for (let at = 0; at < samples.length; at += chunk) {
  call.send(samples.subarray(at, at + chunk));
  await sleep(100);
}
const closed = await call.close();
for (const { role, top } of closed?.summary ?? []) console.log("whole stream:", role, top?.label ?? "-");

/** Return the format and the samples of a WAV file; throw if it is not 16-bit PCM. */
function readWav(file) {
  const found = {};
  for (let at = 12; at + 8 <= file.length; at += 8 + file.readUInt32LE(at + 4) + (file.readUInt32LE(at + 4) & 1)) {
    found[file.toString("latin1", at, at + 4)] = file.subarray(at + 8, at + 8 + file.readUInt32LE(at + 4));
  }
  const { "fmt ": format, data } = found;
  if (file.toString("latin1", 0, 4) !== "RIFF" || !data || format?.readUInt16LE(14) !== 16) throw new Error(`${path} is not a WAV file with 16 bits`);
  const bytes = data.buffer.slice(data.byteOffset, data.byteOffset + (data.length & ~1));
  return { channels: format.readUInt16LE(2), sample_rate: format.readUInt32LE(4), samples: new Int16Array(bytes) };
}
