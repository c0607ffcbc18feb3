// Which environments somebody has pinned and used last: the browser keeps it in a cookie, by which the gateway puts them
// first (pages/chosen.py).

import { notice } from "./actions.js";
import { refresh } from "./part.js";
import { at } from "./root.js";

const COOKIE = "noah-environments";
const [MOST_PINNED, MOST_LAST] = [20, 5];
const LONGEST = 3800; // bytes; a browser drops a cookie of more than 4096 without a word
const A_YEAR = 31536000; // s

function chosen() {
  const found = document.cookie.split("; ").find((one) => one.startsWith(`${COOKIE}=`));
  try {
    const { pinned, last } = JSON.parse(decodeURIComponent(found.slice(COOKIE.length + 1)));
    return { pinned: [...pinned], last: [...last] };
  } catch {
    return { pinned: [], last: [] };
  }
}

// Returns false, and leaves the cookie as it is, if there is no room for what is pinned; of the last used ones as many
// are kept as there is room for.
function keep(pinned, last) {
  const value = encodeURIComponent(JSON.stringify({ pinned, last }));
  if (pinned.length > MOST_PINNED) return false;
  if (last.length > MOST_LAST || (value.length > LONGEST && last.length)) return keep(pinned, last.slice(0, -1));
  if (value.length > LONGEST) return false;
  const path = new URL(at("")).pathname;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${COOKIE}=${value}; Path=${path}; Max-Age=${A_YEAR}; SameSite=Strict${secure}`;
  return true;
}

function pin(name) {
  const { pinned, last } = chosen();
  const others = pinned.filter((one) => one !== name);
  return keep(pinned.includes(name) ? others : [...others, name], last);
}

export function followEnvironments() {
  const { environment } = document.getElementById("live").dataset;
  if (environment) {
    const { pinned, last } = chosen();
    keep(pinned, [environment, ...last.filter((one) => one !== environment)]);
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pin]");
    if (!button) return;
    if (!pin(button.dataset.pin)) return notice("You have pinned as many as your browser keeps: take a pin off first.");
    button.ariaPressed = String(button.ariaPressed !== "true");
    refresh();
  });
}
