// A release's page: its stream, kept, filtered, drawn.

import { Filter } from "./release-filter.js";
import { Lines, wanting } from "./release-lines.js";
import { Head } from "./release-pods.js";
import { follow } from "./release-stream.js";
import { View } from "./release-view.js";
import { tick } from "./times.js";

const SUM_UP = 3000; // ms between two sentences for a screen reader

const element = (id) => document.getElementById(id);
const page = element("release");
const box = element("log");
const lines = new Lines();
const head = new Head(page);
const filter = new Filter(element("wanted"), { now: page.dataset.now, changed: narrow });
let linked = inAddress(); // a line that has not come yet
let said = "";

box.dataset.wrap = filter.wraps;
const view = new View(box, lines, changed);
narrow();

function inAddress() {
  return /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : null;
}

function narrow() {
  box.dataset.wrap = filter.wraps;
  element("download").href = `${page.dataset.api}/log?${filter.query}`;
  view.show(wanting(filter.wanted, lines));
}

function heard(event) {
  head.hear(event);
  if (event.pod) filter.offer("pod", event.pod);
  if (event.container) filter.offer("container", event.container);
  if (lines.add(event) && !filter.wanted.previous) narrow();
  if (event.kind === "end") over(`The release is over: ${event.result}. ${event.text}`);
  view.ask();
}

function restarted() {
  lines.clear();
  head.forget();
  narrow();
}

function lost(isLost) {
  document.body.dataset.stream = isLost ? "lost" : "open";
  element("lost").hidden = !isLost;
}

function over(sentence) {
  lost(false);
  document.body.dataset.stream = "ended";
  tick();
  say(sentence);
}

function gone(sentence) {
  over(sentence);
  element("gone").textContent = sentence;
  element("gone").hidden = false;
}

function say(sentence) {
  if (sentence !== said) element("said").textContent = said = sentence;
}

function changed() {
  head.draw();
  if (linked !== null) seek();
  const shown = view.shown === lines.count ? "" : `${view.shown.toLocaleString()} of `;
  element("count").textContent = `${shown}${lines.count.toLocaleString()} lines`;
  element("left-out").hidden = !lines.leftOut;
  element("older").textContent = lines.leftOut.toLocaleString();
  const waiting = view.fresh ? ` (${view.fresh.toLocaleString()} new lines)` : "";
  element("follow").hidden = view.following && document.body.dataset.stream === "ended";
  element("follow").textContent = view.following ? "Pause" : `Follow${waiting}`;
}

function seek() {
  const wanted = linked;
  linked = null; // marking pauses, which calls back
  const found = view.mark(wanted);
  if (found === null && document.body.dataset.stream !== "ended") linked = wanted;
  else if (found !== wanted) say(`Line ${wanted} is not among those that are shown.`);
}

element("follow").addEventListener("click", () => (view.following ? view.pause() : view.follow()));

box.addEventListener("keydown", (event) => {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (event.key === "End") view.follow();
  else if (event.shiftKey && step) location.replace(`#${view.beside(step)}`);
  else return;
  event.preventDefault();
});

addEventListener("hashchange", () => {
  linked = inAddress();
  if (linked !== null) seek();
});

setInterval(() => {
  if (document.body.dataset.stream !== "open") return;
  say(`${element("count").textContent}, ${element("progress").textContent}`);
}, SUM_UP);
tick();
follow(page.dataset.api, { heard, restarted, lost, gone });
