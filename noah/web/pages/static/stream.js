// The tab's one event stream, to which other scripts subscribe.

import { at } from "./root.js";

const KINDS = document.body.dataset.eventKinds.split(" "); // core/session/event_kind.py
const AGAIN = 2000; // ms; a browser gives up on an answer that is not a stream, as a starting gateway's may be
// ms; a browser has six connections to a gateway, so a tab that nobody sees closes its own. The next stream continues where
// this one ended.
const REST_AFTER = 10000;

const subscribers = new Set();
let narrowed = ""; // to what the page shows, and to the reader's own sessions; "": everything
let source = null;
let resting = null;
let lastId = document.body.dataset.lastEvent; // the stream begins with what happened since the page was made
let lost = false;

export function subscribe(heard) {
  subscribers.add(heard);
}

function publish(event) {
  for (const heard of subscribers) heard(event);
}

function say(isLost) {
  document.body.dataset.stream = isLost ? "lost" : "open";
  if (lost === isLost) return;
  lost = isLost;
  document.getElementById("lost").hidden = !lost;
  if (!lost) publish({ kind: "reload" });
}

function open() {
  const query = new URLSearchParams(narrowed);
  query.set("last_event_id", lastId);
  const opened = new EventSource(at(`api/v1/events?${query}`));
  source = opened;
  opened.onopen = () => say(false);
  opened.onerror = () => {
    say(true);
    if (opened.readyState === EventSource.CLOSED) setTimeout(() => source === opened && open(), AGAIN);
  };
  for (const kind of KINDS)
    opened.addEventListener(kind, (event) => {
      lastId = event.lastEventId;
      publish(JSON.parse(event.data));
    });
}

function rest() {
  source?.close();
  source = null;
  document.body.dataset.stream = "resting";
}

/** Open the stream of the events that *query* asks for; without it, of all. */
export function connect(query = "") {
  narrowed = query;
  open();
  document.addEventListener("visibilitychange", () => {
    clearTimeout(resting);
    if (document.hidden) resting = setTimeout(rest, REST_AFTER);
    else if (!source) {
      open();
      publish({ kind: "reload" });
    }
  });
}
