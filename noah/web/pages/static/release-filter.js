// What is wanted of the stream: the form says it, the address keeps it, the download takes the same.

import { GROUPS } from "./release-lines.js";

const TYPING = 150; // ms
const LENGTH = /^(\d{1,6}h)?(\d{1,6}m)?(\d{1,9}s)?$/; // as noah/duration.py has it
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;
const UNITS = { s: 1, m: 60, h: 3600 };
const ASKED = ["filter", "pod", "container", "since", "previous"]; // what the API takes too

export class Filter {
  #form;
  #changed;
  #offered = { pod: new Set(), container: new Set() };
  #skew; // ms that the gateway's clock is ahead of the browser's

  constructor(form, { now, changed }) {
    this.#form = form;
    this.#changed = changed;
    this.#skew = Date.parse(now) - Date.now();
    this.#read(new URLSearchParams(location.search));
    let typed;
    form.addEventListener("input", (event) => {
      if (event.target.name === "since") return; // half a time is none
      clearTimeout(typed);
      typed = setTimeout(() => this.#apply(), event.target.name === "filter" ? TYPING : 0);
    });
    form.elements.since.addEventListener("change", () => this.#apply());
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** As wanting() takes it. */
  get wanted() {
    const { filter, pod, container, previous } = this.#form.elements;
    return {
      filter: filter.value,
      pod: pod.value,
      container: container.value,
      from: this.#from(),
      previous: previous.checked,
      hidden: new Set(this.#hidden()),
    };
  }

  get wraps() {
    return this.#form.elements.wrap.checked;
  }

  /** Of the API, with what it takes of this. */
  get query() {
    return new URLSearchParams([...this.#params()].filter(([name]) => ASKED.includes(name)));
  }

  /** There is such a pod, or container. */
  offer(name, value) {
    if (this.#offered[name].has(value)) return;
    this.#offered[name].add(value);
    this.#form.elements[name].add(new Option(value, value));
  }

  #read(params) {
    const { filter, since, previous, wrap } = this.#form.elements;
    filter.value = params.get("filter") ?? "";
    since.value = params.get("since") ?? "";
    previous.checked = params.get("previous") !== "false";
    wrap.checked = params.get("wrap") !== "false";
    for (const name of ["pod", "container"]) {
      const value = params.get(name);
      if (value) this.offer(name, value); // it may come yet
      this.#form.elements[name].value = value ?? "";
    }
    const hidden = new Set((params.get("hide") ?? "").split(","));
    for (const group of Object.keys(GROUPS)) this.#form.elements[group].checked = !hidden.has(group);
  }

  #params() {
    const { filter, pod, container, since, previous } = this.#form.elements;
    const given = { filter: filter.value, pod: pod.value, container: container.value };
    if (since.value && this.#from() !== null) given.since = since.value.trim();
    if (!previous.checked) given.previous = "false";
    if (!this.wraps) given.wrap = "false";
    given.hide = this.#hidden().join(",");
    return new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  }

  #hidden() {
    return Object.keys(GROUPS).filter((group) => !this.#form.elements[group].checked);
  }

  // In ms, by the gateway's clock: 10m, 1h30m, or a moment. null: that is neither; 0: from the beginning.
  #from() {
    const value = this.#form.elements.since.value.trim();
    if (!value) return 0;
    if (MOMENT.test(value)) return Date.parse(value);
    if (!LENGTH.test(value)) return null;
    const seconds = [...value.matchAll(/(\d+)(.)/g)].reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0);
    return Date.now() + this.#skew - seconds * 1000;
  }

  #apply() {
    const { since } = this.#form.elements;
    since.setCustomValidity(this.#from() === null ? "Write 10m, 1h30m, or a time like 2026-01-31T13:00:00Z." : "");
    since.reportValidity();
    const query = this.#params().toString();
    history.replaceState(null, "", `${location.pathname}${query && `?${query}`}${location.hash}`);
    this.#changed();
  }
}
