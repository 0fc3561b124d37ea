import { about } from "./about.js";
import { say } from "./dom.js";
import { Feed, address } from "./feed.js";
import { Row } from "./rows.js";
import { Streams } from "./streams.js";
import { Summary } from "./summary.js";
import { words } from "./words.js";

const MAX_ROWS = 60;
const DEFAULT_HOSTS = ["localhost:8765", "127.0.0.1:8765"];

const at = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const streams = new Streams();
const summary = new Summary(at("summary"));
const rows = new Map();
let connected = false;

const feed = new Feed({ rate_hz: 2 }, (message) => streams.take(message, Date.now()), connection);

function connection(state, seconds) {
  connected = state === "live";
  at("status").dataset.state = state;
  say(at("status-text"), state === "waiting" ? words.waiting(seconds) : words[state]);
  at("retry").hidden = state !== "waiting";
  // The page stays as it is when this fails: the next connect asks again.
  if (connected) about(at("about"), at("notice")).catch(() => {});
}

function show(now) {
  streams.tidy(now);
  const all = streams.all;
  const shown = all.slice(0, MAX_ROWS);
  const kept = new Set(shown.map((stream) => stream.session));
  for (const [session, row] of rows) {
    if (kept.has(session)) continue;
    row.node.remove();
    rows.delete(session);
  }
  for (const stream of shown) {
    let row = rows.get(stream.session);
    if (!row) {
      rows.set(stream.session, (row = new Row(stream)));
      at("streams").append(row.node);
    }
    row.show(stream, now);
  }
  const live = streams.live;
  say(at("count"), connected || all.length ? words.count(live.length) : "");
  at("empty").hidden = all.length > 0 || !connected;
  at("more").hidden = all.length <= MAX_ROWS;
  say(at("more"), words.more(all.length - MAX_ROWS));
  at("streams").dataset.connected = connected;
  summary.tell(live, connected, now);
}

function run() {
  // A hidden page draws nothing; the streams are followed all the same.
  if (!document.hidden) show(Date.now());
  setTimeout(run, calm.matches ? 1000 : 250);
}

if (!DEFAULT_HOSTS.includes(location.host)) {
  const command = at("replay-command");
  const server = address("").replace(/\/$/, "");
  say(command, `${command.textContent} ${server}`);
}
say(at("stream-address"), address("v1/stream?sample_rate=16000"));
at("retry").addEventListener("click", () => feed.connect());
feed.connect();
run();
