// What a container printed, as text: colours stay, and whatever else would steer a terminal is made visible.

const SEQUENCE = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]/g; // CSI, OSC, the rest
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const LONGEST = 4_000; // characters of a line that are shown

export function plain(text) {
  return text.includes("\x1b") ? text.replace(SEQUENCE, "") : text;
}

/** Into *element*, by textContent only. */
export function write(text, element) {
  const shown = text.length > LONGEST ? text.slice(0, LONGEST) : text;
  if (shown.includes("\x1b")) writeColoured(shown, element);
  else element.textContent = visible(shown);
  if (shown !== text)
    element.append(span(` … ${(text.length - LONGEST).toLocaleString()} more characters`, "dim"));
}

function writeColoured(text, element) {
  let classes = new Set();
  let from = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    element.append(span(visible(text.slice(from, match.index)), [...classes].join(" ")));
    from = match.index + match[0].length;
    if (match[0].endsWith("m")) classes = styled(classes, match[0].slice(2, -1).split(/[;:]/).map(Number));
  }
  element.append(span(visible(text.slice(from)), [...classes].join(" ")));
}

// Select Graphic Rendition (ECMA-48, 8.3.117): bold, and the eight colours, bright ones too.
function styled(classes, codes) {
  let now = new Set(classes);
  const [colour] = codes;
  if (colour === 38 || colour === 48) return now; // of 256 or of all: the text stays as it is
  for (const code of codes) {
    if (code === 0) now = new Set();
    else if (code === 1) now.add("bold");
    else if (code === 22) now.delete("bold");
    else if ((code >= 30 && code <= 37) || code === 39 || (code >= 90 && code <= 97)) {
      now = new Set([...now].filter((one) => one === "bold"));
      if (code !== 39) now.add(`sgr-${code % 10}`);
    }
  }
  return now;
}

function visible(text) {
  return text.replace(CONTROL, (one) => {
    const code = one.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code); // the pictures of control characters
    return code === 0x7f ? "\u2421" : `<${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

function span(text, className) {
  const element = document.createElement("span");
  element.textContent = text;
  if (className) element.className = className;
  return element;
}
