/** Pages of calls that were loaded so far, the newest first, and the cursor of the next page. No DOM. */
export class Pages {
  calls = [];
  next = null;

  /** Start again with a first page. */
  replace({ sessions, next }) {
    this.calls = sessions;
    this.next = next;
  }

  /** Add the next page. */
  append({ sessions, next }) {
    const known = new Set(this.calls.map(({ id }) => id));
    this.calls = [...this.calls, ...sessions.filter(({ id }) => !known.has(id))];
    this.next = next;
  }

  /** Take the newest state of the first page; pages behind it stay. */
  refresh({ sessions, next }) {
    const last = sessions.at(-1);
    const at = last && next ? this.calls.findIndex(({ id }) => id === last.id) : -1;
    if (at < 0) return this.replace({ sessions, next });
    this.calls = [...sessions, ...this.calls.slice(at + 1)];
    if (at === this.calls.length - 1) this.next = next;
  }

  /** Remove a call that was deleted. */
  remove(id) {
    this.calls = this.calls.filter((call) => call.id !== id);
  }
}
