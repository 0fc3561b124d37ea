const PIECE = 4 << 20;
const HEAD = 64 << 10;
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/** Seconds that one peak stands for. */
export const HOP = 0.01;

/**
 * What a WAV blob looks like: `{seconds, channels: [Uint8Array]}`, each channel the largest
 * magnitude (0 to 255) of every HOP. Read piece by piece, because it may be two hours.
 * Throws RangeError if it is no 16-bit or float WAV.
 */
export async function peaks(blob) {
  const { rate, channels, float, start, end } = header(await blob.slice(0, HEAD).arrayBuffer(), blob.size);
  const bytes = float ? 4 : 2;
  const block = bytes * channels;
  const count = Math.floor((end - start) / block);
  const hop = Math.round(rate * HOP);
  const full = float ? 1 : 32_768;
  const found = Array.from({ length: channels }, () => new Uint8Array(Math.ceil(count / hop)));
  const step = Math.floor(PIECE / (block * hop)) * hop;
  for (let first = 0; first < count; first += step) {
    const last = Math.min(count, first + step);
    const buffer = await blob.slice(start + first * block, start + last * block).arrayBuffer();
    const samples = float ? new Float32Array(buffer) : new Int16Array(buffer);
    for (let channel = 0; channel < channels; channel += 1) {
      for (let at = 0; at < last - first; at += hop) {
        const until = Math.min(last - first, at + hop);
        let most = 0;
        for (let n = at; n < until; n += 1) {
          const sample = samples[n * channels + channel];
          if (sample > most) most = sample;
          else if (-sample > most) most = -sample;
        }
        found[channel][(first + at) / hop] = Math.min(255, Math.round((most / full) * 255));
      }
    }
  }
  return { seconds: count / rate, channels: found };
}

function header(buffer, size) {
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
      if (!float && !(kind === PCM && bits === 16)) throw new RangeError(`${bits} bits of kind ${kind}`);
      return { rate, channels, float, start: body, end: Math.min(size, body + length) };
    }
    at = body + length + (length % 2);
  }
  throw new RangeError("no audio in the WAV file");
}
