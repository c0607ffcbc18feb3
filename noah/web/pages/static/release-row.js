// One line of the stream, drawn: when, which pod (by name and by colour), what of it, and the text.

import { write } from "./release-text.js";

const COLOURS = 8; // as release.css has them

const colours = new Map(); // pod -> number, in the order in which they came

export function colourOf(pod) {
  if (!colours.has(pod)) colours.set(pod, colours.size % COLOURS);
  return `pod-${colours.get(pod)}`;
}

export function row(line) {
  const element = document.createElement("div");
  element.className = `line of-${line.kind}`;
  element.dataset.n = line.n;
  if (line.type === "Warning") element.classList.add("warned");
  if (line.result) element.classList.add(line.result);
  element.append(when(line), pod(line), what(line), text(line));
  return element;
}

function when(line) {
  const link = document.createElement("a");
  link.href = `#${line.n}`;
  link.tabIndex = -1; // hundreds of stops for the Tab key; Shift and an arrow choose a line as well
  link.className = "at";
  link.textContent = clock(new Date(line.time));
  link.title = `${line.at.replace("T", " ").replace("Z", "")} UTC`;
  return link;
}

function pod(line) {
  const name = part("pod", line.pod ? line.pod.slice(line.pod.lastIndexOf("-") + 1) : ""); // what is its own of it
  if (line.pod) {
    name.classList.add(colourOf(line.pod));
    name.title = line.pod;
  }
  return name;
}

function what(line) {
  const element = part("what", line.container ?? (line.kind === "pod" ? "phase" : line.kind));
  element.title = element.textContent;
  if (line.restart) element.append(mark(`↻${line.restart}`, `restarts of the container before: ${line.restart}`));
  return element;
}

function text(line) {
  const element = part("text", "");
  if (line.hook) element.append(mark(line.hook, `printed by the ${line.hook} hook`), " ");
  if (line.reason) element.append(mark(line.reason, `${line.type} of ${line.object}`), " ");
  if (line.result) element.append(mark(line.result, "how it ended"), " ");
  write(line.text, element.appendChild(part("said", "")));
  return element;
}

function mark(text, title) {
  const element = part("mark", text);
  element.title = title;
  return element;
}

function part(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

export function clock(at) {
  const two = (number) => String(number).padStart(2, "0");
  const ms = String(at.getMilliseconds()).padStart(3, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${ms}`;
}
