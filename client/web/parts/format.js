// Numbers as text.

const twoDigits = (n) => String(n).padStart(2, "0");

/** Return milliseconds as m:ss or h:mm:ss. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${twoDigits(m)}:${twoDigits(s)}` : `${m}:${twoDigits(s)}`;
}

/** Return a time in seconds as 1:02.5, or 1:02 without `tenths`; with hours if there are any. */
export function timestamp(seconds, tenths = true) {
  const total = tenths ? Math.round(seconds * 10) : Math.round(seconds) * 10;
  const whole = duration(Math.floor(total / 10) * 1000);
  return tenths ? `${whole}.${total % 10}` : whole;
}

/** Return a share between 0 and 1 as a percentage. */
export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

/** Return a number of bytes in B, kB, MB or GB. */
export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const [unit, scale] = bytes < 999_500 ? ["kB", 1e3] : bytes < 999_500_000 ? ["MB", 1e6] : ["GB", 1e9];
  const value = bytes / scale;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}
