import { request } from "../../api.js";
import { t, tag, textFor } from "../../language.js";
import { element } from "../../parts/dom.js";
import { fileSize } from "../../parts/format.js";
import { save } from "../../parts/save.js";
import { zip } from "./zip.js";

/** A file of a result no longer exists on the server. */
export class FileDeleted extends Error {}

/** Files of one result; each is fetched once. */
export class ResultFiles {
  #blobs = new Map();

  constructor(files) {
    this.list = files;
  }

  has(name) {
    return this.list.some((file) => file.name === name);
  }

  /** Return the Blob of a file. Throw FileDeleted, or TypeError if the server cannot be reached. */
  async blob(name) {
    if (!this.#blobs.has(name)) {
      const { url } = this.list.find((file) => file.name === name);
      // Relative to the page, because a proxy may add a path prefix.
      const blob = request(url.replace(/^\//, "")).then((response) => {
        if (!response.ok) throw new FileDeleted(`${name}: ${response.status}`);
        return response.blob();
      });
      blob.catch(() => this.#blobs.delete(name));
      this.#blobs.set(name, blob);
    }
    return this.#blobs.get(name);
  }
}

/** Return a button for each file, one for a PNG that `exportPng()` draws, and one for all as ZIP. */
export function downloads(job, files, exportPng) {
  const stem = job.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_") || "recording";
  const error = element("p", { className: "trouble", role: "alert" });
  const png = `${stem}.png`;

  const item = (label, size, description, action) => {
    const button = element("button", { type: "button" }, label);
    if (size) button.append(" ", element("span", { className: "bytes" }, size));
    button.addEventListener("click", async () => {
      // Not disabled while busy: a disabled button loses the focus.
      if (button.ariaBusy === "true") return;
      error.textContent = "";
      button.ariaBusy = "true";
      try {
        await action();
      } catch (reason) {
        error.textContent = t(reason instanceof FileDeleted ? "recordings.deleted" : "recordings.fetch_failed");
      }
      button.ariaBusy = "false";
    });
    const about = description ? [element("span", { className: "soft" }, description)] : [];
    return element("li", {}, button, ...about);
  };
  const saveAll = async () => {
    const entries = await Promise.all(
      files.list.map(async ({ name }) => ({ name: `${stem}/${name}`, blob: await files.blob(name) })),
    );
    entries.push({ name: `${stem}/${png}`, blob: await exportPng() });
    save(await zip(entries), `${stem}.zip`);
  };

  const all = item(t("recordings.all_as_zip"), "", "", saveAll);
  all.firstElementChild.className = "main";
  const list = element("ul", { className: "downloads" }, all);
  for (const { name, bytes } of files.list) {
    const saveFile = async () => save(await files.blob(name), `${stem}.${name}`);
    list.append(item(name, fileSize(bytes), textFor(`recordings.file.${name}`, ""), saveFile));
  }
  list.append(item("PNG", "", t("recordings.file.png"), async () => save(await exportPng(), png)));
  const until = new Date(job.expires).toLocaleString(tag());
  return element(
    "section",
    { className: "card" },
    element("h3", {}, t("recordings.downloads")),
    list,
    error,
    element("p", { className: "soft" }, job.expires ? t("recordings.kept_until", { until }) : ""),
  );
}
