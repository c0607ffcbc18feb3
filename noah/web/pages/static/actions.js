// What the buttons and forms do: calls of the API, by the attributes that the templates give them.

import { refresh } from "./part.js";
import { at } from "./root.js";
import { traceparent } from "./trace.js";

const BRIEFLY = 8000; // ms; for what is seen to have been done
const STILL_NEW = 5000; // ms; what made a refusal is often seen on the page just after it

export function say(text) {
  document.getElementById("said").textContent = text;
}

async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: { traceparent: traceparent(), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch(() => {
    throw new Error("The gateway does not answer: try again when it is back. Debug sessions continue meanwhile.");
  });
  const got = await answer.json().catch(() => null); // a proxy's answer may be anything
  if (!answer.ok || got === null) {
    const sentence = got?.detail ?? `The gateway, or a proxy before it, answered ${answer.status} and nothing else.`;
    throw Object.assign(new Error(sentence), { problem: got });
  }
  return got;
}

function confirmed(text) {
  const dialog = document.getElementById("confirm");
  document.getElementById("question").textContent = text;
  dialog.returnValue = "no"; // Escape leaves it as it is
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

async function enable(target) {
  try {
    await call("POST", at("api/v1/sessions"), { target });
  } catch (error) {
    if (!error.problem?.needs_restart) throw error;
    if (await confirmed(error.message)) await call("POST", at("api/v1/sessions"), { target, confirm_restart: true });
  }
}

async function copy(text) {
  // The clipboard is for https and localhost only; elsewhere the old way is the only one.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.body.appendChild(document.createElement("textarea"));
  area.value = text;
  area.select();
  document.execCommand("copy");
  area.remove();
}

async function copied(button, text) {
  await copy(text);
  say("Copied.");
  const label = button.firstChild;
  const before = label.data;
  if (before === "Copied") return;
  label.data = "Copied";
  setTimeout(() => (label.data = before), 1500);
}

async function examine({ dataset: data }) {
  const place = document.getElementById(data.into);
  place.textContent = "The doctor is looking…";
  try {
    const { findings } = await call("POST", data.doctor, data.body ? JSON.parse(data.body) : {});
    place.replaceChildren(listed(findings));
  } catch (error) {
    place.replaceChildren(refusal(error.message));
  }
}

function listed(findings) {
  const list = document.createElement("ul");
  for (const one of findings) {
    const item = list.appendChild(document.createElement("li"));
    const chip = item.appendChild(document.createElement("span"));
    chip.className = `chip ${one.level}`;
    chip.textContent = one.level;
    item.append(` ${one.check}: ${one.message}`);
  }
  return list;
}

function refusal(text) {
  const paragraph = document.createElement("p");
  paragraph.className = "refusal";
  paragraph.textContent = text;
  return paragraph;
}

export function notice(text, { link, briefly } = {}) {
  const box = document.createElement("div");
  box.className = "banner";
  box.append(text);
  if (link && new URL(link).pathname !== location.pathname) {
    const there = document.createElement("a");
    there.href = link;
    there.textContent = "Go there";
    box.append(" ", there);
  }
  const close = box.appendChild(document.createElement("button"));
  close.textContent = "Dismiss";
  close.onclick = () => {
    box.remove();
    document.getElementById("live").focus({ preventScroll: true });
  };
  document.getElementById("notices").append(box);
  if (briefly) setTimeout(() => box.contains(document.activeElement) || box.remove(), BRIEFLY);
}

async function act({ dataset: data }, fields) {
  if (data.confirm && !(await confirmed(data.confirm))) return;
  let done;
  if (data.enable) await enable(data.enable);
  else if (data.post) done = await call("POST", data.post, fields ?? (data.body && JSON.parse(data.body)));
  else if (data.delete) await call("DELETE", data.delete);
  if (data.thenEnable) await enable(data.thenEnable);
  if (data.goTo) location.assign(data.goTo + encodeURIComponent(done.id));
  if (data.done) notice(data.done, { briefly: true });
}

async function pressed(button) {
  const data = button.dataset;
  if (data.copy) await copied(button, data.copy);
  else if (data.copyFrom) await copied(button, await (await fetch(data.copyFrom)).text());
  else if (data.doctor) await examine(button);
  else await act(button);
}

// One at a time of each button, and whatever is refused is said beside it.
async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  refused(null);
  try {
    await work();
  } catch (error) {
    refused(error.message);
  } finally {
    button.removeAttribute("aria-busy");
    refresh();
  }
}

let refusedAt = 0;

function refused(sentence) {
  refusedAt = Date.now();
  const place = document.getElementById("refusal");
  if (!place) return sentence && notice(sentence);
  place.textContent = sentence ?? "";
  place.hidden = sentence === null;
}

const PRESSED = "[data-enable], [data-delete], [data-copy], [data-copy-from], [data-doctor], button[data-post]";

export function listen() {
  // A refusal may no longer be true when the state has changed.
  document.addEventListener("noah:changed", () => Date.now() - refusedAt > STILL_NEW && refused(null));
  const click = (target) => {
    const button = target.closest(PRESSED);
    if (button) busy(button, () => pressed(button));
  };
  document.addEventListener("click", (event) => click(event.target));
  window.early.forEach(click);
  window.early = null;
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-post]");
    if (!form) return;
    event.preventDefault();
    const fields = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    busy(event.submitter ?? form, async () => {
      await act(form, fields);
      form.reset();
    });
  });
}
