// ZIP archives without compression, up to 4 GiB (PKWARE APPNOTE.TXT 6.3, §4.3). Audio hardly
// compresses, and uncompressed files need not be in memory at the same time.

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const VERSION = 20;
const UTF8 = 0x0800;
const MAX = 0xffffffff;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  return crc;
});

/** Return an archive of `[{name, blob}]` as a Blob. Throw RangeError above 4 GiB. */
export async function zip(entries, modified = new Date()) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const { name, blob } of entries) {
    const path = new TextEncoder().encode(name);
    // Local and central headers share these fields, in this order.
    const shared = [
      [2, VERSION], [2, UTF8], [2, 0], [2, dosTime(modified)], [2, dosDate(modified)],
      [4, await crc32(blob)], [4, blob.size], [4, blob.size], [2, path.length], [2, 0],
    ];
    directory.push(
      fields([4, CENTRAL], [2, VERSION], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]),
      path,
    );
    const local = fields([4, LOCAL], ...shared);
    parts.push(local, path, blob);
    at += local.length + path.length + blob.size;
    if (at > MAX) throw new RangeError("a ZIP archive holds 4 GiB at most");
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = entries.length;
  const end = fields([4, END], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Return the fields `[bytes, value]` as little-endian numbers one after the other. */
function fields(...list) {
  const buffer = new Uint8Array(list.reduce((sum, [bytes]) => sum + bytes, 0));
  const view = new DataView(buffer.buffer);
  let at = 0;
  for (const [bytes, value] of list) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return buffer;
}

async function crc32(blob) {
  const reader = blob.stream().getReader();
  let crc = MAX;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return (crc ^ MAX) >>> 0;
    for (const byte of value) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  }
}

const dosTime = (date) =>
  (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
const dosDate = (date) =>
  ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
