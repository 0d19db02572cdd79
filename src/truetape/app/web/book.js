// The chosen symbol's book: what it was last, and what follows from it over two minutes. Formulas as docs/page.md gives them.
const KEEP_MS = 120_000;
const LEVELS = 5;

export class BookView {
  constructor() {
    this.clear("");
  }

  clear(name) {
    this.name = name;
    this.bids = this.asks = [];
    this.at = 0;
    this.digits = 0;
    this.points = []; // [page time, spread in bps, imbalance, microprice, mid]
    this.dirty = true;
  }

  /** A whole state, best levels first. */
  take(event) {
    this.bids = event.bids;
    this.asks = event.asks;
    this.at = performance.now();
    this.dirty = true;
    for (const [price] of [...this.bids.slice(0, 3), ...this.asks.slice(0, 3)]) {
      this.digits = Math.max(this.digits, Math.min(8, (String(price).split(".")[1] ?? "").length));
    }
    const found = this.figures();
    if (found.mid === null) return;
    this.points.push([this.at, found.bps, found.imbalance, found.micro, found.mid]);
    const old = this.points.findIndex(([at]) => at > this.at - KEEP_MS);
    if (old > 200) this.points.splice(0, old); // now and then, not each time
  }

  /** What follows from the best levels; nothing where a side is empty, or the book is not to be believed. */
  figures(believed = true) {
    const [bid, ask] = [this.bids[0], this.asks[0]];
    if (!bid || !ask || !believed) return { mid: null, spread: null, bps: null, micro: null, imbalance: null };
    const mid = (bid[0] + ask[0]) / 2;
    const sum = (rows) => rows.slice(0, LEVELS).reduce((total, [, size]) => total + size, 0);
    const [bought, sold] = [sum(this.bids), sum(this.asks)];
    return {
      mid,
      spread: ask[0] - bid[0],
      bps: ((ask[0] - bid[0]) / mid) * 1e4,
      micro: (bid[0] * ask[1] + ask[0] * bid[1]) / (bid[1] + ask[1]),
      imbalance: (bought - sold) / (bought + sold),
    };
  }

  /** With as many digits as the venue's prices have, and `more`. */
  price(value, more = 0) {
    return value.toLocaleString("en", { minimumFractionDigits: this.digits + more, maximumFractionDigits: this.digits + more });
  }
}

export function size(value) {
  if (value >= 10_000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  if (value >= 100) return value.toFixed(2);
  return value >= 0.001 || !value ? value.toFixed(4) : value.toFixed(8).replace(/0+$/, ""); // a small print is not nothing
}
