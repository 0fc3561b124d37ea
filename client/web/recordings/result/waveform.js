import { PEAK_S } from "../../parts/utterance-timeline-draw.js";

const PIECE_BYTES = 4 << 20;
const HEADER_BYTES = 64 << 10;
// Formats of a WAV file.
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/**
 * Return the peaks of a WAV blob: `{seconds, channels: [Uint8Array]}`, for each channel the largest
 * magnitude (0 to 255) in every `PEAK_S`. The blob is read in pieces, because it may contain hours.
 * Throw RangeError unless it is a WAV file with 16-bit or float samples.
 */
export async function readPeaks(blob) {
  const { rate, channels, float, start, end } = parseHeader(await blob.slice(0, HEADER_BYTES).arrayBuffer(), blob.size);
  const bytes = float ? 4 : 2;
  const block = bytes * channels;
  const count = Math.floor((end - start) / block);
  const hop = Math.round(rate * PEAK_S);
  const fullScale = float ? 1 : 32_768;
  const peaks = Array.from({ length: channels }, () => new Uint8Array(Math.ceil(count / hop)));
  const step = Math.floor(PIECE_BYTES / (block * hop)) * hop;
  for (let first = 0; first < count; first += step) {
    const last = Math.min(count, first + step);
    const buffer = await blob.slice(start + first * block, start + last * block).arrayBuffer();
    const samples = float ? new Float32Array(buffer) : new Int16Array(buffer);
    for (let channel = 0; channel < channels; channel += 1) {
      for (let at = 0; at < last - first; at += hop) {
        const until = Math.min(last - first, at + hop);
        let peak = 0;
        for (let n = at; n < until; n += 1) {
          const sample = samples[n * channels + channel];
          if (sample > peak) peak = sample;
          else if (-sample > peak) peak = -sample;
        }
        peaks[channel][(first + at) / hop] = Math.min(255, Math.round((peak / fullScale) * 255));
      }
    }
  }
  return { seconds: count / rate, channels: peaks };
}

function parseHeader(buffer, size) {
  const view = new DataView(buffer);
  const tag = (at) => String.fromCharCode(...new Uint8Array(buffer, at, 4));
  if (buffer.byteLength < 44 || tag(0) !== "RIFF" || tag(8) !== "WAVE") {
    throw new RangeError("not a WAV file");
  }
  let format = null;
  for (let at = 12; at + 8 <= buffer.byteLength; ) {
    const length = view.getUint32(at + 4, true);
    const body = at + 8;
    if (tag(at) === "fmt ") {
      const code = view.getUint16(body, true);
      format = {
        kind: code === EXTENSIBLE ? view.getUint16(body + 24, true) : code,
        channels: view.getUint16(body + 2, true),
        rate: view.getUint32(body + 4, true),
        bits: view.getUint16(body + 14, true),
      };
    } else if (tag(at) === "data" && format) {
      const { kind, channels, rate, bits } = format;
      const float = kind === FLOAT && bits === 32;
      if (!float && !(kind === PCM && bits === 16)) {
        throw new RangeError(`unsupported WAV format ${kind} with ${bits} bits`);
      }
      return { rate, channels, float, start: body, end: Math.min(size, body + length) };
    }
    at = body + length + (length % 2);
  }
  throw new RangeError("the WAV file contains no audio");
}
