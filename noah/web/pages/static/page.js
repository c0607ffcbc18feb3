// Every page: the stream, the times, the buttons, the filter.

import { listen, notice } from "./actions.js";
import { followEnvironments } from "./environments.js";
import { refresh } from "./part.js";
import { at } from "./root.js";
import { connect, subscribe } from "./stream.js";
import { count, tick } from "./times.js";

const TYPING = 150; // ms

const { events, poll } = document.getElementById("live").dataset;

subscribe((event) => {
  if (event.kind === "asked" && event.owner_principal.id === document.body.dataset.me)
    notice(`${event.by} asks you to resume ${event.subject}${event.text ? `: ${event.text}` : "."}`, {
      link: at(`sessions/${encodeURIComponent(event.session)}`),
    });
  refresh();
});

const filter = document.querySelector("[data-filter]");
if (filter) {
  let typed;
  const narrow = () => {
    const given = [...new FormData(filter)].filter(([, value]) => value);
    const query = new URLSearchParams(given).toString();
    history.replaceState(null, "", filter.getAttribute("action") + (query && `?${query}`));
    refresh();
  };
  filter.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(narrow, TYPING);
  });
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typed);
    narrow();
  });
}

tick();
setInterval(count, 1000);
// Health has no events: it is asked for.
setInterval(() => document.hidden || refresh(), (poll ?? 10) * 1000);
listen();
followEnvironments();
connect(events);
