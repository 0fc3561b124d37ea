// Everything the scripts say to a person, in one place, so that another language is another file.

export const labels = {
  angry: "angry",
  disgusted: "disgusted",
  fearful: "fearful",
  happy: "happy",
  neutral: "neutral",
  other: "other",
  sad: "sad",
  surprised: "surprised",
  unknown: "unknown",
};

export const hints = {
  short_speech: "little speech yet",
  low_level: "very quiet",
  clipped: "distorted",
  noisy: "noisy",
  narrowband: "telephone band",
  music: "music",
  tone: "a tone, no speech",
  high_pitch: "high voice or cry",
  low_confidence: "uncertain",
};

export const states = { active: "live", paused: "paused", ended: "ended" };

export const words = {
  connecting: "connecting …",
  live: "connected",
  waiting: (seconds) => `not connected, next try in ${seconds} s`,
  count: (n) => (n === 1 ? "1 stream" : `${n} streams`),
  more: (n) => `${n} more are not shown.`,
  speaking: "speaking",
  silent: "silent",
  quietFor: (seconds) => `silent for ${seconds} s`,
  unheard: "nothing said yet",
  over: (horizon) => (horizon === "window" ? "newest window" : `last ${horizon.replace("s", " s")}`),
  notAnalysed: "not analysed",
  spark: (label, percent) => `Course of the last minute, now ${label} ${percent}`,
  axis: ["1 min ago", "now"],
  shares: "Share of every emotion",
  nobody: "Nobody is streaming.",
  lost: "The connection to the server is lost.",
  more_spoken: (n) => `and ${n} more.`,
  model: "Model",
  licence: "Licence",
  device: "Runs on",
  why: "Why this one",
  missing: "Does not know",
  analysed: "Analysed roles",
  kept: "Audio kept",
  no: "none",
  server: "Server",
};
