// Puts what has changed in place: the page asks for its own part anew, as the server renders it.

import { tick } from "/static/times.js";

const AT_MOST_EVERY = 200; // ms; many events in a row are one change

let running = false;
let again = false;
let shown = null;

export async function refresh() {
  again = true;
  if (running) return;
  running = true;
  while (again) {
    again = false;
    try {
      const answer = await fetch(location.href, { headers: { "Noah-Part": "1" } });
      const text = await answer.text();
      if (answer.headers.get("Content-Type")?.startsWith("text/html")) put(text);
    } catch {
      // The stream says that the connection is lost, and asks again when it is back.
    }
    await new Promise((done) => setTimeout(done, AT_MOST_EVERY));
  }
  running = false;
}

function put(text) {
  if (text === shown) return;
  shown = text;
  const live = document.getElementById("live");
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const [id, href] = [focused?.id, focused?.getAttribute("href")];
  const left = [...live.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  const said = state(live);
  live.innerHTML = text; // rendered, and so escaped, by our own server
  live.querySelectorAll(".scroll").forEach((one, n) => (one.scrollLeft = left[n] ?? 0));
  tick();
  if (focused) {
    const same = id ? document.getElementById(id) : [...live.querySelectorAll("a")].find((a) => a.getAttribute("href") === href);
    (same ?? live).focus({ preventScroll: true });
  }
  if (state(live) !== said) document.getElementById("said").textContent = state(live);
}

function state(live) {
  const heading = live.querySelector("#debug")?.childNodes ?? [];
  const status = [...heading].map((one) => (one.tagName === "SMALL" ? "" : one.textContent)).join(" ");
  const code = live.querySelector("#state code")?.textContent ?? "";
  return `${status} ${code}`.replace(/\s+/g, " ").trim();
}
