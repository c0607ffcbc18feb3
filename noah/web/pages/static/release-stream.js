// The release's event stream, which is the tab's only one: begun again when it is lost, from where it was.
//
// Read by fetch: an EventSource dispatches all that has arrived in one task, thousands of lines and a frozen tab after
// a burst; and it hears no pings, and cannot distinguish a missing release from a missing gateway.

const AGAIN = 2000; // ms
const SILENCE = 45_000; // ms; the gateway says something every 15 s
const BUDGET = 8; // ms of reading in a row
// ms; a browser has six connections to a gateway, so a tab that nobody sees closes its own.
const REST_AFTER = 10_000;

/**
 * heard(event) for each new one, restarted() when all come again, lost(whether), gone(sentence) when there is no such
 * release. Nothing more comes after "end".
 */
export async function follow(url, { heard, restarted, lost, gone }) {
  let lastId = "";
  let last = 0;
  let connection;
  let resting;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(resting);
    if (document.hidden) resting = setTimeout(() => connection.abort(), REST_AFTER);
  });

  /** Whether it is the end. */
  function hear({ id, event, data }) {
    lastId = id ?? lastId;
    if (data === undefined) return false; // a ping
    if (event === "anew") {
      last = 0;
      restarted();
      return false;
    }
    const said = JSON.parse(data);
    if (said.n > last) heard(said); // otherwise it has come before
    last = Math.max(last, said.n);
    return event === "end";
  }

  for (;;) {
    connection = new AbortController();
    try {
      const headers = lastId ? { "Last-Event-ID": lastId } : {};
      const answer = await fetch(`${url}/events`, { headers, signal: connection.signal });
      if (answer.status === 404) return gone((await answer.json()).detail);
      if (answer.ok) {
        lost(false);
        for await (const block of blocks(answer.body)) if (hear(fields(block))) return;
      }
    } catch (error) {
      // A TypeError is what fetch calls the failures of a network.
      if (!(error instanceof TypeError || connection.signal.aborted)) throw error;
    }
    if (connection.signal.aborted) {
      await seen();
      continue;
    }
    lost(true);
    await new Promise((done) => setTimeout(done, AGAIN));
  }
}

function seen() {
  return new Promise((done) => {
    const look = () => document.hidden || done();
    document.addEventListener("visibilitychange", look);
    look();
  });
}

async function* blocks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (;;) {
      const { done, value } = await spoken(reader);
      if (done) return;
      const whole = (rest + value).split("\n\n");
      rest = whole.pop();
      let until = performance.now() + BUDGET;
      for (const block of whole) {
        yield block;
        // A tab that nobody sees cannot be frozen, and its timers wait for up to a minute.
        if (performance.now() < until || document.hidden) continue;
        await new Promise((done) => setTimeout(done));
        until = performance.now() + BUDGET;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may be broken already
  }
}

async function spoken(reader) {
  let timer;
  const silence = new Promise((done) => (timer = setTimeout(done, SILENCE, { done: true })));
  try {
    return await Promise.race([reader.read(), silence]);
  } finally {
    clearTimeout(timer);
  }
}

function fields(block) {
  const found = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) found[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return found;
}
