// Puts what has changed in place: the page asks for its own part again, as the server renders it, and changes what is
// different. What is the same is left alone, and with it focus, scrolling, and what is being typed or read aloud.

import { matched } from "./match.js";
import { tick } from "./times.js";

const AT_MOST_EVERY = 200; // ms; many events in a row are one change
const LOADING_AFTER = 400; // ms; what is faster needs no word
const ANSWERS_WITHIN = 20000; // ms
const OURS = new Set(["aria-busy", "open"]); // attributes that scripts and readers set

let running = false;
let again = false;
let shown = null;

// By which two nodes are the same thing.
const name = (node) => node.dataset?.key ?? `${node.nodeName}#${node.id ?? ""}`;

export async function refresh() {
  again = true;
  if (running) return;
  running = true;
  while (again) {
    again = false;
    await once();
    await new Promise((done) => setTimeout(done, AT_MOST_EVERY));
  }
  running = false;
}

async function once() {
  const loading = document.getElementById("loading");
  const timer = setTimeout(() => (loading.hidden = false), LOADING_AFTER);
  try {
    const answer = await fetch(location.href, {
      headers: { "Noah-Part": "1" },
      signal: AbortSignal.timeout(ANSWERS_WITHIN),
    });
    const text = await answer.text();
    if (answer.headers.get("Content-Type")?.startsWith("text/html")) {
      put(text);
      stale(null);
    } else stale(`This page cannot be brought up to date: the answer was ${answer.status}.`);
  } catch (error) {
    // That the connection is lost is said by the stream, which asks again when it is back.
    stale(error.name === "TimeoutError" ? "The gateway does not answer in time: what you see may be old." : null);
  } finally {
    clearTimeout(timer);
    loading.hidden = true;
  }
}

function stale(sentence) {
  const banner = document.getElementById("stale");
  banner.textContent = sentence ?? "";
  banner.hidden = sentence === null;
}

function put(text) {
  if (text === shown) return;
  shown = text;
  const live = document.getElementById("live");
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const said = state(live);
  const fresh = document.createElement("template");
  fresh.innerHTML = text; // rendered, and so escaped, by our own server
  tick(fresh.content);
  become(live, fresh.content);
  if (focused && !live.contains(focused)) live.focus({ preventScroll: true });
  if (state(live) === said) return;
  document.getElementById("said").textContent = state(live);
  document.dispatchEvent(new Event("noah:changed"));
}

function become(old, fresh) {
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  const found = matched(before.map(name), after.map(name));
  const kept = new Set(found);
  before.forEach((node, i) => kept.has(i) || node.remove());
  let at = old.firstChild;
  after.forEach((node, i) => {
    const same = before[found[i]];
    if (!same) return old.insertBefore(node, at);
    at = same.nextSibling;
    renew(same, node);
  });
}

function renew(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  // data-keep: what is in it is the script's or the reader's, not the server's.
  if (old.isEqualNode(fresh) || old.hasAttribute("data-keep")) return;
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !OURS.has(name)) old.removeAttribute(name);
  become(old, fresh);
}

function state(live) {
  const heading = live.querySelector("#debug")?.childNodes ?? [];
  const status = [...heading].map((one) => (one.tagName === "SMALL" ? "" : one.textContent)).join(" ");
  const code = live.querySelector("#state code")?.textContent ?? "";
  return `${status} ${code}`.replace(/\s+/g, " ").trim();
}
