// What the buttons do: calls of the API, by the attributes that the templates give them.

import { refresh } from "/static/part.js";

export function say(text) {
  document.getElementById("said").textContent = text;
}

async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const got = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(got.detail), { problem: got });
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
    await call("POST", "/api/v1/sessions", { target });
  } catch (error) {
    if (!error.problem?.needs_restart) throw error;
    if (await confirmed(error.message)) await call("POST", "/api/v1/sessions", { target, confirm_restart: true });
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
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1500);
}

async function examine(button) {
  const { findings } = await call("GET", button.dataset.doctor);
  const list = document.createElement("ul");
  list.className = "findings";
  for (const one of findings) {
    const item = list.appendChild(document.createElement("li"));
    const chip = item.appendChild(document.createElement("span"));
    chip.className = `chip ${one.level}`;
    chip.textContent = one.level;
    item.append(` ${one.check}: ${one.message}`);
  }
  notice(`The doctor of ${button.dataset.into}`, list);
}

export function notice(text, more) {
  const box = document.createElement("div");
  box.className = "banner";
  box.append(text, ...(more ? [more] : []));
  const close = box.appendChild(document.createElement("button"));
  close.textContent = "Dismiss";
  close.onclick = () => box.remove();
  document.getElementById("notices").append(box);
}

async function act(button) {
  const data = button.dataset;
  if (data.copy) return copied(button, data.copy);
  if (data.copyFrom) return copied(button, await (await fetch(data.copyFrom)).text());
  if (data.doctor) return examine(button);
  if (data.confirm && !(await confirmed(data.confirm))) return;
  if (data.enable) await enable(data.enable);
  else if (data.post) await call("POST", data.post, data.body && JSON.parse(data.body));
  else if (data.delete) await call("DELETE", data.delete);
  if (data.thenEnable) await enable(data.thenEnable);
  await refresh();
  if (data.done) notice(data.done);
}

const ACTS = "[data-enable], [data-post], [data-delete], [data-copy], [data-copy-from], [data-doctor]";

export function listen() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(ACTS);
    if (!button || button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      await act(button);
    } catch (error) {
      const refusal = document.getElementById("refusal");
      if (!refusal) return notice(error.message);
      refusal.textContent = error.message;
      refusal.hidden = false;
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}
