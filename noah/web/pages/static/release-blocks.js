// A hundred thousand lines, of which only those near the window are elements.
//
// Lines stand in blocks. A block that is far from what one sees is empty and as high as it was when it was last drawn,
// or as its text lets expect; the browser's scroll anchoring makes good what such a guess is wrong by. So lines may
// wrap and be as high as they like, and nothing is ever measured by us.

import { row } from "./release-row.js";

const BLOCK = 50; // lines
const NEAR = 800; // pixels

export class Blocks {
  root = document.createElement("div");
  count = 0; // lines
  marked; // the number of a line that is, or null
  #blocks = [];
  #of = new WeakMap();
  #changed = new Set();
  #near;
  #columns;
  #height;

  /** *columns*: characters that a line's text is broken after; *height*: of one row, in pixels. */
  constructor(box, { columns, height, marked }) {
    this.marked = marked;
    this.#columns = columns;
    this.#height = height;
    this.root.className = "blocks";
    const near = { root: box, rootMargin: `${NEAR}px 0px` };
    this.#near = new IntersectionObserver((entries) => this.#moved(entries), near);
  }

  add(line) {
    let last = this.#blocks.at(-1);
    if (!last || last.lines.length === BLOCK) last = this.#begin();
    last.lines.push(line);
    last.rows += Math.max(1, Math.ceil(Math.min(line.plain.length, 4_000) / this.#columns));
    this.#changed.add(last);
    this.count += 1;
  }

  /** Draws what has been added, as far as one sees it. *atEnd*: the end is what one sees. */
  draw(atEnd) {
    if (atEnd) for (const block of this.#blocks.slice(-2)) this.#show(block);
    for (const block of this.#changed) block.shown ? this.#fill(block) : this.#empty(block);
    this.#changed.clear();
  }

  /** Lets go of the blocks that only have lines from before *n*. */
  dropBefore(n) {
    let gone = 0;
    while (gone < this.#blocks.length - 1 && this.#blocks[gone].lines.at(-1).n < n) gone += 1;
    for (const block of this.#blocks.splice(0, gone)) {
      this.#near.unobserve(block.element);
      block.element.remove();
      this.#changed.delete(block);
      this.count -= block.lines.length;
    }
  }

  /** The row of the first line that is not before *n*, drawn; null when there is none. */
  find(n) {
    const block = this.#blocks.find((one) => one.lines.at(-1).n >= n);
    if (!block) return null;
    this.#show(block);
    return block.element.children[block.lines.findIndex((one) => one.n >= n)];
  }

  /** The number of the line that is *step* lines after line *n*; at the ends, the last one there is. */
  neighbour(n, step) {
    const at = this.#blocks.findIndex((one) => one.lines.at(-1).n >= n);
    const block = this.#blocks[at];
    const inside = block?.lines.findIndex((one) => one.n >= n) + step;
    const beyond = () => (step < 0 ? this.#blocks[at - 1]?.lines.at(-1) : this.#blocks[at + 1]?.lines[0]);
    return (block?.lines[inside] ?? beyond())?.n ?? n;
  }

  close() {
    this.#near.disconnect();
  }

  #begin() {
    const block = { element: document.createElement("div"), lines: [], rows: 0, height: null, shown: false };
    this.#of.set(block.element, block);
    this.#blocks.push(block);
    this.root.append(block.element);
    this.#near.observe(block.element);
    return block;
  }

  #moved(entries) {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      const block = this.#of.get(target);
      if (isIntersecting) this.#show(block);
      else if (block.shown && block !== this.#blocks.at(-1) && !document.getSelection().containsNode(target, true)) {
        block.shown = false;
        block.height = boundingClientRect.height || null;
        this.#empty(block);
      }
    }
  }

  #show(block) {
    if (block.shown) return;
    block.shown = true;
    block.element.style.height = "";
    this.#fill(block);
  }

  #fill(block) {
    for (const line of block.lines.slice(block.element.childElementCount)) {
      const element = block.element.appendChild(row(line));
      if (line.n === this.marked) element.ariaCurrent = "true";
    }
  }

  #empty(block) {
    block.element.replaceChildren();
    block.element.style.height = `${block.height ?? block.rows * this.#height}px`;
  }
}
