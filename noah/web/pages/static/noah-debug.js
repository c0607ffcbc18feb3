// <noah-debug target="app=shop">: one target's debugging on a page of another site. The page says as whom by a token, in the
// attribute `token` or, since tokens are short, by a function: element.getToken = async () => "...". The gateway lets the
// page's origin call by `origins` of [access]. Nothing of the gateway is shown as HTML: everything is text.

import { traceparent } from "./trace.js";

const GATEWAY = new URL("..", import.meta.url).href;
const LOOK_EVERY = 3000; // ms
const LOOK_RARELY = 15000; // ms; while the page is hidden

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host { display: inline-flex; flex-wrap: wrap; gap: 0.5em; align-items: center; font: inherit; }
  :host([hidden]) { display: none; }
  button { font: inherit; padding: 0.15em 0.7em; cursor: pointer; }
  button[disabled] { cursor: progress; }
  code { user-select: all; }
  .state { font-weight: 600; }
  .refusal { color: #b3261e; }
  @media (prefers-color-scheme: dark) { .refusal { color: #ffb4ab; } }
`);

class NoahDebug extends HTMLElement {
  static observedAttributes = ["target", "gateway", "token"];

  #root = this.attachShadow({ mode: "open" });
  #session = null; // as the API has it
  #holder = null; // of somebody else's session
  #refusal = "";
  #ends = 0; // by performance.now
  #timers = [];
  #busy = false;

  getToken = async () => this.getAttribute("token");

  connectedCallback() {
    this.#root.adoptedStyleSheets = [STYLE];
    this.#timers = [setInterval(() => this.#count(), 1000)];
    this.#look();
  }

  disconnectedCallback() {
    this.#timers.forEach((timer) => clearInterval(timer));
    this.#timers = [];
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#look();
  }

  get #address() {
    return this.getAttribute("gateway")?.replace(/\/*$/, "/") ?? GATEWAY;
  }

  async #call(method, path, body) {
    const token = await this.getToken();
    const answer = await fetch(`${this.#address}api/v1/${path}`, {
      method,
      credentials: "omit",
      headers: {
        ...(token && { Authorization: `Bearer ${token}` }),
        ...(body && { "Content-Type": "application/json" }),
        ...(method !== "GET" && { traceparent: traceparent() }),
      },
      body: body && JSON.stringify(body),
    }).catch(() => {
      throw new Error("The debug gateway does not answer.");
    });
    const got = await answer.json().catch(() => null);
    if (!answer.ok || got === null) throw Object.assign(new Error(got?.detail ?? `HTTP ${answer.status}`), { got });
    return got;
  }

  async #look() {
    clearTimeout(this.#timers[1]);
    try {
      const target = this.getAttribute("target");
      if (target === null) throw new Error("noah-debug needs a target.");
      const { session } = await this.#call("GET", `targets/${target.split("/").map(encodeURIComponent).join("/").replaceAll("%3D", "=")}`);
      this.#take(session && (await this.#call("GET", `sessions/${session.id}`)));
      if (!this.#busy) this.#refusal = "";
    } catch (error) {
      this.#refusal = error.message;
    }
    this.#show();
    if (this.isConnected) this.#timers[1] = setTimeout(() => this.#look(), document.hidden ? LOOK_RARELY : LOOK_EVERY);
  }

  #take(session) {
    this.#session = session?.mine ? session : null;
    this.#holder = session && !session.mine ? session : null;
    this.#ends = performance.now() + (this.#session?.expires_in_seconds ?? 0) * 1000;
  }

  async #act(method, path, body) {
    if (this.#busy) return;
    this.#busy = true;
    this.#refusal = "";
    this.#show();
    try {
      const session = await this.#call(method, path, body);
      this.#take(session.ended_at ? null : session);
      this.dispatchEvent(new CustomEvent("noah-changed", { detail: session, bubbles: true }));
    } catch (error) {
      this.#refusal = error.message;
      if (error.got?.needs_restart && confirm(error.message)) {
        this.#busy = false;
        return this.#act(method, path, { ...body, confirm_restart: true });
      }
    }
    this.#busy = false;
    this.#show();
  }

  #count() {
    const place = this.#root.querySelector(".left");
    if (place) place.textContent = this.#left();
  }

  #left() {
    const seconds = Math.max(0, Math.round((this.#ends - performance.now()) / 1000));
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    return hours ? `${hours} h ${minutes} min left` : `${minutes} min ${seconds % 60} s left`;
  }

  #show() {
    const parts = [];
    const text = (name, content, kind = "span") => {
      const part = document.createElement(kind);
      part.className = name;
      part.textContent = content;
      parts.push(part);
      return part;
    };
    const button = (label, work) => {
      const made = text("", label, "button");
      made.disabled = this.#busy;
      made.addEventListener("click", work);
    };
    const session = this.#session;
    if (session) {
      const where = session.vm?.state === "suspended" && session.vm.location ? ` at ${session.vm.location}` : "";
      text("state", session.status + where).setAttribute("role", "status");
      text("address", `${session.host}:${session.port}`, "code");
      text("left", this.#left());
      if (session.attached) button("Resume", () => this.#act("POST", `sessions/${session.id}/resume`));
      button("End", () => this.#act("DELETE", `sessions/${session.id}?wait=20`));
    } else if (this.#holder) {
      text("state", `${this.#holder.owner} is debugging this`).setAttribute("role", "status");
    } else {
      button("Debug", () => this.#act("POST", "sessions?wait=60", { target: this.getAttribute("target") }));
    }
    if (this.#refusal) text("refusal", this.#refusal).setAttribute("role", "alert");
    const focused = this.#root.activeElement?.textContent;
    this.#root.replaceChildren(...parts);
    if (focused) parts.find((part) => part.localName === "button" && part.textContent === focused)?.focus();
  }
}

customElements.define("noah-debug", NoahDebug);
