// Times become local (UTC stays in the title), and lengths count on.

let formats; // made when the first time is written: they are slow to make, and many pages have none

function length(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  if (h >= 48) return `${Math.floor(h / 24)} d`;
  if (h) return `${h} h ${String(m).padStart(2, "0")} min`;
  return m ? `${m} min ${String(s % 60).padStart(2, "0")} s` : `${s} s`;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function local(at) {
  formats ??= {
    today: new Intl.DateTimeFormat([], { timeStyle: "medium" }),
    before: new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" }),
  };
  const isToday = at.toDateString() === new Date().toDateString();
  return (isToday ? formats.today : formats.before).format(at);
}

export function tick(root = document) {
  for (const one of root.querySelectorAll("time[datetime]:not([data-since])")) set(one, local(new Date(one.dateTime)));
  count(root);
}

export function count(root = document) {
  const now = Date.now();
  for (const one of root.querySelectorAll("[data-since]"))
    set(one, `since ${length((now - new Date(one.dateTime)) / 1000)}`);
  for (const one of root.querySelectorAll("[data-until]"))
    set(one, `in ${length((new Date(one.dataset.until) - now) / 1000)}`);
}
