// The head of a release's page: how far it is, and what each of its pods is.

import { clock, colourOf } from "./release-row.js";
import { at } from "./root.js";

const CONDITIONS = {
  PodScheduled: "scheduled",
  Initialized: "initialized",
  ContainersReady: "containers",
  Ready: "ready",
};
const LINES = new Set(["log", "hook"]); // which change nothing here
const OF_ANY = new Set(["pod", "event", "paused"]); // also about pods that the release replaces; others are about its own

export class Head {
  #head;
  #pods = new Map();
  #rows = new Map();
  #changed = new Set();

  constructor(head) {
    this.#head = head;
  }

  hear(event) {
    if (event.kind === "progress") this.#progress(event);
    else if (event.kind === "end") this.#end(event);
    else if (event.kind === "release") this.#head.querySelector("[data-revision]").textContent = event.revision;
    else if (event.pod) this.#pod(event);
  }

  /** All events come again. */
  forget() {
    this.#pods.clear();
  }

  draw() {
    for (const name of this.#changed) this.#draw(name, this.#pods.get(name));
    this.#changed.clear();
    const replaced = this.#head.querySelector("[data-replaced]");
    replaced.hidden = replaced.rows.length === 1; // its heading
  }

  #progress({ online, wanted, text }) {
    const bar = this.#head.querySelector("progress");
    bar.max = wanted || 1;
    bar.value = online;
    this.#head.querySelector("[data-progress]").textContent = text;
  }

  #end({ result, text, at }) {
    const chip = this.#head.querySelector("[data-result]");
    chip.className = `chip ${result}`;
    chip.textContent = result;
    const sentence = this.#head.querySelector("[data-sentence]");
    sentence.textContent = text;
    sentence.hidden = text === this.#head.querySelector("[data-progress]").textContent;
    const ended = this.#head.querySelector("[data-ended]");
    const time = document.createElement("time");
    time.dateTime = at;
    time.title = `${at.slice(0, 19).replace("T", " ")} UTC`;
    ended.replaceChildren(time);
  }

  #pod(event) {
    colourOf(event.pod); // in the order in which they come
    const pod = this.#pods.get(event.pod) ?? { conditions: {} };
    if (event.kind === "pod") pod.phase = event.text;
    else if (event.kind === "condition") pod.conditions[event.condition] = event.status;
    else if (event.kind === "checkurl") pod.checkurl = event.text;
    else if (event.kind === "online") pod.online = event.online;
    else if (event.kind === "paused") pod.paused = event;
    if (!LINES.has(event.kind) || !pod.isNew) this.#changed.add(event.pod);
    if (!OF_ANY.has(event.kind) || event.is_new) pod.isNew = true;
    else if (event.kind !== "event") pod.isNew ??= false; // an event of the cluster does not say whose the pod is
    this.#pods.set(event.pod, pod);
  }

  #draw(name, pod) {
    if (pod?.isNew === undefined) return;
    if (!this.#rows.has(name)) this.#rows.set(name, this.#row(name));
    const row = this.#rows.get(name);
    const body = this.#head.querySelector(pod.isNew ? "[data-pods]" : "[data-replaced]");
    if (row.parentNode !== body) body.append(row);
    const [, phase, conditions, checkurl, online, paused] = row.cells;
    phase.textContent = pod.phase ?? "–";
    const known = Object.keys(CONDITIONS).filter((one) => one in pod.conditions);
    conditions.replaceChildren(...known.map((one) => chip(CONDITIONS[one], pod.conditions[one])));
    checkurl.textContent = pod.checkurl ?? "–";
    checkurl.title = pod.checkurl ?? "";
    online.replaceChildren(pod.online === undefined ? "–" : chip(pod.online ? "there" : "gone", pod.online));
    if (pod.paused) paused.replaceChildren(session(pod.paused));
  }

  #row(name) {
    this.#head.querySelector("[data-some-pods]").hidden = false;
    const row = document.createElement("tr");
    for (let n = 0; n < 6; n += 1) row.insertCell();
    const link = document.createElement("a");
    const { cluster, namespace } = this.#head.dataset;
    link.href = at(`targets/pod/${[cluster, namespace, name].map(encodeURIComponent).join("/")}`);
    link.textContent = name;
    link.className = `mono swatch ${colourOf(name)}`;
    row.cells[0].append(link);
    row.cells[3].className = "answer";
    row.cells[5].textContent = "nobody";
    return row;
  }
}

function chip(text, good) {
  const element = document.createElement("span");
  element.className = `chip ${good ? "ok" : ""}`;
  element.textContent = `${good ? "✓" : "✗"} ${text}`;
  return element;
}

function session(event) {
  const link = document.createElement("a");
  link.href = at(`sessions/${encodeURIComponent(event.session)}`);
  link.textContent = `${event.owner}, ${clock(new Date(event.at)).slice(0, 8)}`; // no event says when it is resumed
  link.title = event.text;
  return link;
}
