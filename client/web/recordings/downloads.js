import { known, t, tag } from "../language.js";
import { element } from "../parts/dom.js";
import { get } from "../server.js";
import { size } from "./sounds.js";
import { zip } from "./zip.js";

/** A file of a result is no longer on the server. */
export class Gone extends Error {}

/** The files of one result, each fetched once. */
export class Files {
  #kept = new Map();

  constructor(files) {
    this.list = files;
  }

  has(name) {
    return this.list.some((file) => file.name === name);
  }

  /** The Blob of a file. Throws Gone if the server has deleted it, TypeError if it is away. */
  async blob(name) {
    if (!this.#kept.has(name)) {
      const { url } = this.list.find((file) => file.name === name);
      // Relative to the page, which may stand behind a proxy with a path of its own.
      const fetched = get(url.replace(/^\//, "")).then((response) => {
        if (!response.ok) throw new Gone(`${name}: ${response.status}`);
        return response.blob();
      });
      fetched.catch(() => this.#kept.delete(name));
      this.#kept.set(name, fetched);
    }
    return this.#kept.get(name);
  }
}

/** A button for each file, the picture, and all as one; `draw()` makes the picture. */
export function downloads(job, files, draw) {
  const stem = job.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_") || "recording";
  const trouble = element("p", { className: "trouble", role: "alert" });
  const picture = `${stem}.png`;
  const button = (label, hint, act, main = false) => {
    const made = element("button", { type: "button", className: main ? "main" : "" }, label);
    if (hint) made.append(" ", element("span", { className: "bytes" }, hint));
    made.addEventListener("click", async () => {
      // Not disabled meanwhile: that would take the focus away from who pressed it.
      if (made.ariaBusy === "true") return;
      trouble.textContent = "";
      made.ariaBusy = "true";
      try {
        await act();
      } catch (error) {
        trouble.textContent = t(error instanceof Gone ? "recordings.gone" : "recordings.fetch_failed");
      }
      made.ariaBusy = "false";
    });
    return element("li", {}, made);
  };
  const all = async () => {
    const entries = await Promise.all(
      files.list.map(async ({ name }) => ({ name: `${stem}/${name}`, blob: await files.blob(name) })),
    );
    entries.push({ name: `${stem}/${picture}`, blob: await draw() });
    save(await zip(entries), `${stem}.zip`);
  };
  const list = element("ul", { className: "downloads" });
  list.append(button(t("recordings.all_as_zip"), "", all, true));
  for (const { name, bytes } of files.list) {
    const item = button(name, size(bytes), async () => save(await files.blob(name), `${stem}.${name}`));
    item.append(element("span", { className: "soft" }, known(`recordings.file.${name}`, "")));
    list.append(item);
  }
  const drawn = button("PNG", "", async () => save(await draw(), picture));
  drawn.append(element("span", { className: "soft" }, t("recordings.file.picture")));
  list.append(drawn);
  const until = new Date(job.expires).toLocaleString(tag());
  return element(
    "section",
    { className: "card" },
    element("h3", {}, t("recordings.downloads")),
    list,
    trouble,
    element("p", { className: "soft" }, job.expires ? t("recordings.kept_until", { until }) : ""),
  );
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  // Not at once: the browser has yet to begin reading it.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
