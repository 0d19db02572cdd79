// The health of all subscriptions on one canvas: a change repaints one cell, and only another set or another width lays out anew.
import { FONT, Surface } from "./surface.js";
import { look } from "./states.js";
import { colours, onTheme } from "./theme.js";

const FEW = 60; // so many have room for their names
const GAP = 3;

export class Grid {
  /** `chosen(name)` is called for a symbol that was picked; `stale()` asks for a paint. */
  constructor(feeds, canvas, tip, line, chosen, stale) {
    Object.assign(this, { feeds, canvas, tip, line, chosen });
    this.surface = new Surface(canvas, () => this.again());
    this.ask = stale;
    this.cursor = 0;
    this.hover = -1;
    this.name = "";
    this.whole = true;
    this.sprites = new Map();
    this.columns = 1;
    onTheme(() => this.again());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.show(-1));
    canvas.addEventListener("pointerdown", (event) => this.pick(this.at(event)));
    canvas.addEventListener("focus", () => this.move(this.cursor));
    canvas.addEventListener("blur", () => this.again(this.show(-1)));
  }

  again() {
    this.whole = true;
    this.sprites.clear();
    this.ask();
  }

  select(name) {
    this.name = name;
    const at = this.feeds.order.findIndex((row) => row.name === name);
    if (at >= 0 && document.activeElement !== this.canvas) this.cursor = at;
    this.again();
  }

  layout() {
    const count = this.feeds.order.length;
    this.named = count <= FEW;
    this.cellWide = this.named ? 176 : 15;
    this.cellHigh = this.named ? 24 : 15;
    this.columns = Math.max(1, Math.floor((this.surface.wide + GAP) / (this.cellWide + GAP)));
    if (this.named) this.cellWide = Math.floor((this.surface.wide + GAP) / this.columns) - GAP;
    const high = Math.max(1, Math.ceil(count / this.columns)) * (this.cellHigh + GAP) + GAP;
    if (Math.abs(high - this.surface.high) > 0.5) {
      this.canvas.style.height = `${high}px`;
      this.surface.resize(this.surface.wide, high);
    }
  }

  place(index) {
    const row = Math.floor(index / this.columns);
    return [(index - row * this.columns) * (this.cellWide + GAP) + 1, row * (this.cellHigh + GAP) + 2];
  }

  paint() {
    const { feeds } = this;
    if (!this.surface.wide) return;
    if (feeds.reset || this.whole) {
      if (feeds.reset) {
        feeds.arrange();
        this.cursor = Math.min(this.cursor, Math.max(0, feeds.order.length - 1));
      }
      this.layout();
      this.surface.clear();
      for (let index = 0; index < feeds.order.length; index++) this.cell(index);
    } else for (const row of feeds.dirty) this.cell(row.index);
    const shown = this.hover >= 0 ? this.hover : document.activeElement === this.canvas ? this.cursor : -1;
    if (shown >= 0 && (feeds.reset || feeds.dirty.has(feeds.order[shown]))) this.tell(shown);
    feeds.reset = this.whole = false;
    feeds.dirty.clear();
  }

  cell(index) {
    const row = this.feeds.order[index];
    if (row === undefined) return;
    const [x, y] = this.place(index);
    const { pen } = this.surface;
    const state = this.feeds.known ? row.state : "UNKNOWN";
    pen.clearRect(x - 1.5, y - 1.5, this.cellWide + 3, this.cellHigh + 3);
    pen.drawImage(this.sprite(state), x, y, this.cellHigh, this.cellHigh);
    if (this.named) {
      pen.save();
      pen.beginPath();
      pen.rect(x, y, this.cellWide, this.cellHigh);
      pen.clip();
      this.surface.text(row.name, x + this.cellHigh + 6, y + this.cellHigh / 2, colours.ink);
      const at = x + this.cellHigh + 12 + pen.measureText(row.name).width;
      this.surface.text(row.channel, at, y + this.cellHigh / 2, colours.soft, "left", `11px ${FONT}`);
      pen.restore();
    }
    const here = index === this.cursor && document.activeElement === this.canvas;
    if (row.name === this.name || here) {
      pen.lineWidth = here ? 2.5 : 1.5;
      pen.strokeStyle = here ? colours.focus : colours.ink;
      pen.strokeRect(x, y, this.cellWide, this.cellHigh);
    }
  }

  /** A state's square, painted once for each theme. */
  sprite(state) {
    let image = this.sprites.get(state);
    if (image) return image;
    const ratio = globalThis.devicePixelRatio || 1;
    const side = this.cellHigh;
    image = new OffscreenCanvas(Math.round(side * ratio), Math.round(side * ratio));
    const pen = image.getContext("2d");
    const { sign, colour, ink } = look(state);
    pen.scale(ratio, ratio);
    pen.fillStyle = colours[colour];
    pen.beginPath();
    pen.roundRect(0, 0, side, side, 3);
    pen.fill();
    pen.fillStyle = colours[ink];
    pen.font = `700 ${Math.round(side * 0.72)}px ${FONT}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(sign, side / 2, side / 2 + 0.5);
    this.sprites.set(state, image);
    return image;
  }

  at(event) {
    const column = Math.floor((event.offsetX - 1) / (this.cellWide + GAP));
    const index = Math.floor((event.offsetY - 2) / (this.cellHigh + GAP)) * this.columns + column;
    return column < this.columns && index < this.feeds.order.length ? index : -1;
  }

  point(event) {
    const at = this.at(event);
    if (at !== this.hover) this.show(at);
  }

  /** The tip beside a cell; -1: none. */
  show(index) {
    this.hover = index;
    const row = this.feeds.order[index];
    this.tip.hidden = row === undefined;
    if (row === undefined) return;
    const [x, y] = this.place(index);
    const box = this.canvas.parentElement;
    this.tip.style.left = `${Math.max(8, Math.min(x + this.canvas.offsetLeft, this.surface.wide - 400))}px`;
    this.tip.style.top = `${y + this.canvas.offsetTop - box.scrollTop + this.cellHigh + 6}px`;
    this.tell(index);
  }

  tell(index) {
    const row = this.feeds.order[index];
    if (row === undefined) return;
    const state = this.feeds.known ? row.state : "UNKNOWN";
    const since = row.since ? `, since ${new Date(row.since / 1e6).toLocaleTimeString()}` : "";
    const silence = row.threshold ? `; silent for ${row.threshold.toFixed(1)} s would be too long` : "";
    const why = row.reason || look(state).means;
    const words = `${row.name} ${row.channel}: ${state}, ${why}\nproof: ${row.evidence}${since}${silence}`;
    this.line.textContent = words.replace("\n", "; ");
    this.tip.textContent = words;
  }

  move(index) {
    const last = this.feeds.order.length - 1;
    if (last < 0) return;
    const before = this.cursor;
    this.cursor = Math.max(0, Math.min(last, index));
    this.cell(before);
    this.cell(this.cursor);
    const [, y] = this.place(this.cursor);
    const box = this.canvas.parentElement;
    if (y < box.scrollTop) box.scrollTop = y - GAP;
    else if (y + this.cellHigh > box.scrollTop + box.clientHeight) box.scrollTop = y + this.cellHigh + GAP - box.clientHeight;
    this.show(this.cursor);
    this.hover = -1;
  }

  pick(index) {
    const row = this.feeds.order[index];
    if (row) this.chosen(row.name);
  }

  key(event) {
    const page = this.columns * 5;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page };
    if (event.key in steps) this.move(this.cursor + steps[event.key]);
    else if (event.key === "Home") this.move(0);
    else if (event.key === "End") this.move(this.feeds.order.length - 1);
    else if (event.key === "Enter" || event.key === " ") this.pick(this.cursor);
    else if (event.key === "Escape") this.show(-1);
    else return;
    event.preventDefault();
  }
}
