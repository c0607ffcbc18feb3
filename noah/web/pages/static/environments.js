// Which environments somebody has pinned and used last: the browser keeps it in a cookie, by which the gateway puts them
// first (pages/chosen.py).

import { refresh } from "./part.js";
import { at } from "./root.js";

const COOKIE = "noah-environments";
const [MOST_PINNED, MOST_LAST] = [20, 5];
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

function keep({ pinned, last }) {
  const value = encodeURIComponent(
    JSON.stringify({ pinned: pinned.slice(0, MOST_PINNED), last: last.slice(0, MOST_LAST) }),
  );
  const path = new URL(at("")).pathname;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${COOKIE}=${value}; Path=${path}; Max-Age=${A_YEAR}; SameSite=Strict${secure}`;
}

function pin(name) {
  const { pinned, last } = chosen();
  const others = pinned.filter((one) => one !== name);
  keep({ pinned: pinned.includes(name) ? others : [...others, name], last });
}

export function followEnvironments() {
  const { environment } = document.getElementById("live").dataset;
  if (environment) {
    const { pinned, last } = chosen();
    keep({ pinned, last: [environment, ...last.filter((one) => one !== environment)] });
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pin]");
    if (!button) return;
    pin(button.dataset.pin);
    button.ariaPressed = String(button.ariaPressed !== "true");
    refresh();
  });
}
