// The lines of a release that the tab keeps, and which of them are wanted.

import { plain } from "./release-text.js";

const KEPT = 100_000; // lines; some 60 MB. Older ones are left out
const AT_ONCE = 1_000; // lines that are let go together

// What a person switches on and off, and the kinds of events that it means.
// The page brings the table: noah/core/release/release_event.py has it.
export const GROUPS = JSON.parse(document.getElementById("release").dataset.shownAs);
const GROUP = new Map(Object.entries(GROUPS).flatMap(([group, kinds]) => kinds.map((kind) => [kind, group])));

export class Lines {
  first = 0; // the number of the oldest line that is kept; clear() does not start them again
  leftOut = 0;
  #lines = [];
  #runs = new Map(); // of a container, the newest

  get end() {
    return this.first + this.#lines.length;
  }

  get count() {
    return this.#lines.length;
  }

  at(number) {
    return this.#lines[number - this.first];
  }

  /** Whether lines have become those of an earlier run by it. */
  add(event) {
    const line = { ...event, time: Date.parse(event.at), plain: plain(event.text) };
    if (event.reason) line.plain = `${event.reason}: ${line.plain}`;
    this.#lines.push(line);
    if (this.#lines.length >= KEPT + AT_ONCE) this.#letGo(AT_ONCE);
    if (event.restart === undefined) return false;
    const before = this.#runs.get(key(event));
    if (before !== undefined && before >= event.restart) return false;
    this.#runs.set(key(event), event.restart);
    return before !== undefined;
  }

  clear() {
    this.#letGo(this.#lines.length);
    this.leftOut = 0;
    this.#runs.clear();
  }

  isOfEarlierRun(line) {
    return line.restart !== undefined && line.restart < this.#runs.get(key(line));
  }

  #letGo(count) {
    this.#lines.splice(0, count);
    this.first += count;
    this.leftOut += count;
  }
}

/** Whether a line is wanted. What is missing is always said. */
export function wanting({ filter, pod, container, from, previous, hidden }, lines) {
  const needle = filter.toLowerCase();
  return (line) =>
    line.kind === "gap" ||
    (!hidden.has(GROUP.get(line.kind)) &&
      (!pod || line.pod === pod) &&
      (!container || line.container === container) &&
      (!from || line.time >= from) &&
      (previous || !lines.isOfEarlierRun(line)) &&
      (!needle || line.plain.toLowerCase().includes(needle)));
}

function key({ pod, container }) {
  return `${pod}/${container}`;
}
