// The tab's one event stream. Whoever wants to know of events subscribes here.

const KINDS = ["session", "connection", "step", "warning", "target", "asked", "reload"];
const AGAIN = 2000; // ms; a browser gives up on an answer that is no stream, which a starting gateway's may be

const subscribers = new Set();
let lastId = "";
let lost = false;

export function subscribe(told) {
  subscribers.add(told);
}

function tell(event) {
  for (const told of subscribers) told(event);
}

function say(isLost) {
  if (lost === isLost) return;
  lost = isLost;
  document.getElementById("lost").hidden = !lost;
  if (!lost) tell({ kind: "reload" });
}

export function connect() {
  const source = new EventSource("/api/v1/events" + (lastId ? `?last_event_id=${encodeURIComponent(lastId)}` : ""));
  source.onopen = () => {
    document.body.dataset.stream = "open";
    say(false);
  };
  source.onerror = () => {
    document.body.dataset.stream = "lost";
    say(true);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN);
  };
  for (const kind of KINDS)
    source.addEventListener(kind, (event) => {
      lastId = event.lastEventId;
      tell(JSON.parse(event.data));
    });
}
