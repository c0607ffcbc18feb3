// The log that one sees: takes the wanted lines frame by frame, follows their end or stays where one reads.

import { Blocks } from "./release-blocks.js";

const BUDGET = 8; // ms of a frame for new lines; what is left comes with the next one
const SLOW = 3; // lines in a second that a screen reader can read out

export class View {
  following = true;
  fresh = 0; // lines that came since one stopped to follow
  #box;
  #lines;
  #changed;
  #wanted = () => true;
  #blocks;
  #next = null; // Blocks that are being filled, to take the place of those that are seen
  #taken = 0; // the number of the line that is to be taken next
  #asked = false;
  #pausedAt = 0; // the number of the first line that is a new one
  #top = 0;
  #sized;
  #marked = null;
  #beginning = performance.now();
  #inSecond = 0;

  /** *changed* is called after each frame that changed something. */
  constructor(box, lines, changed) {
    this.#box = box;
    this.#lines = lines;
    this.#changed = changed;
    this.#sized = new ResizeObserver(() => this.#stay());
    this.#sized.observe(box);
    this.#blocks = this.#begin();
    box.append(this.#blocks.root);
    this.#sized.observe(this.#blocks.root);
    box.addEventListener("scroll", () => this.#scrolled());
    // Nothing is drawn for a tab that nobody sees.
    document.addEventListener("visibilitychange", () => this.ask());
  }

  /** There are new lines, or none any more. */
  ask() {
    if (this.#asked || document.hidden) return;
    this.#asked = true;
    requestAnimationFrame(() => this.#frame());
  }

  get shown() {
    return this.#blocks.count;
  }

  /** Shows the *wanted* lines from the beginning. What one sees stays until they are there. */
  show(wanted) {
    this.#wanted = wanted;
    this.#next?.close();
    this.#next = this.#begin();
    if (!this.#blocks.count) this.#turn();
    this.#taken = this.#lines.first;
    this.fresh = 0;
    this.ask();
  }

  follow() {
    this.following = true;
    this.fresh = 0;
    this.#blocks.draw(true);
    this.#stay();
    this.ask();
    this.#changed();
  }

  pause() {
    if (this.following) this.#pausedAt = this.#taken;
    this.following = false;
    this.#box.ariaLive = "off";
    this.#changed();
  }

  /** Marks line *n* and brings it into sight, or else the next one: its number is given. null: it has not come yet. */
  mark(n) {
    this.#marked = this.#blocks.marked = n;
    this.#box.querySelector("[aria-current]")?.removeAttribute("aria-current");
    const row = this.#blocks.find(n);
    if (!row) return null;
    if (Number(row.dataset.n) === n) row.ariaCurrent = "true";
    this.pause();
    row.scrollIntoView({ block: "center" });
    return Number(row.dataset.n);
  }

  /** The line that is *step* after the marked one; the one at the top of the window when none is. */
  beside(step) {
    return this.#marked === null ? this.#atTop() : this.#blocks.neighbour(this.#marked, step);
  }

  #begin() {
    const style = getComputedStyle(this.#box);
    const height = parseFloat(style.lineHeight);
    const wide = this.#box.clientWidth - parseFloat(style.getPropertyValue("--before"));
    const wraps = this.#box.dataset.wrap === "true";
    const columns = wraps ? Math.max(10, wide / (parseFloat(style.fontSize) * 0.6)) : Infinity;
    return new Blocks(this.#box, { columns, height, marked: this.#marked });
  }

  /** Shows what was filled from now on; the reader's place stays. */
  #turn() {
    const top = this.following ? null : this.#atTop();
    this.#sized.unobserve(this.#blocks.root);
    this.#blocks.close();
    [this.#blocks, this.#next] = [this.#next, null];
    this.#box.replaceChildren(this.#blocks.root);
    this.#sized.observe(this.#blocks.root);
    if (top !== null) this.#blocks.find(top)?.scrollIntoView({ block: "start" });
  }

  #frame() {
    this.#asked = false;
    const blocks = this.#next ?? this.#blocks;
    const took = this.#take(blocks);
    const all = this.#taken === this.#lines.end;
    blocks.draw(this.following);
    if (all && this.#next && this.#lines.count) this.#turn();
    if (!this.#next) this.#beQuiet(took);
    this.#stay();
    if (!all) this.ask();
    this.#changed();
  }

  #take(blocks) {
    const until = performance.now() + BUDGET;
    const { first, end } = this.#lines;
    this.#taken = Math.max(this.#taken, first);
    if (this.#lines.leftOut) blocks.dropBefore(this.#lines.at(first).n);
    const before = blocks.count;
    while (this.#taken < end && (this.#taken % 64 || performance.now() < until)) {
      const line = this.#lines.at(this.#taken++);
      if (!this.#wanted(line)) continue;
      blocks.add(line);
      if (!this.following && this.#taken > this.#pausedAt) this.fresh += 1;
    }
    return blocks.count - before;
  }

  #stay() {
    if (!this.following) return;
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#top = this.#box.scrollTop;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    const below = scrollHeight - clientHeight - scrollTop;
    const [up, down] = [scrollTop < this.#top - 1, scrollTop > this.#top + 1];
    this.#top = scrollTop;
    if (this.following && up && below > 4) this.pause();
    else if (!this.following && down && below < 2) this.follow();
  }

  #atTop() {
    const { top } = this.#box.getBoundingClientRect();
    for (const row of this.#box.querySelectorAll("[data-n]"))
      if (row.getBoundingClientRect().bottom > top + 1) return Number(row.dataset.n);
    return 0;
  }

  // A screen reader reads lines while it can keep up; the page's status sums up the rest.
  #beQuiet(took) {
    const now = performance.now();
    this.#inSecond = now - this.#beginning > 1000 ? took : this.#inSecond + took;
    if (now - this.#beginning > 1000) this.#beginning = now;
    this.#box.ariaLive = this.following && this.#inSecond <= SLOW ? "polite" : "off";
  }
}
