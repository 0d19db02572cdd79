// Ladder and depth chart of one book. What is not LIVE is shown pale under its state: yesterday's prices must not look like today's.
import { FONT, Surface } from "./surface.js";
import { size } from "./book.js";
import { colours } from "./theme.js";

const ROW = 17;

export class Ladder {
  constructor(canvas, stale) {
    this.surface = new Surface(canvas, stale);
  }

  paint(book, state, why) {
    const { surface } = this;
    const { pen, wide, high } = surface;
    surface.clear();
    const pale = state !== "LIVE" && state !== "QUIET";
    const each = Math.max(1, Math.floor((high - ROW) / 2 / ROW));
    const [asks, bids] = [book.asks.slice(0, each), book.bids.slice(0, each)];
    const largest = Math.max(1e-12, ...asks.map((row) => row[1]), ...bids.map((row) => row[1]));
    pen.globalAlpha = pale ? 0.3 : 1;
    const middle = Math.floor(high / 2);
    let total = 0;
    asks.forEach(([price, amount], index) => {
      total += amount;
      this.row(book, price, amount, total, largest, middle - ROW / 2 - (index + 1) * ROW, "ask");
    });
    total = 0;
    bids.forEach(([price, amount], index) => {
      total += amount;
      this.row(book, price, amount, total, largest, middle + ROW / 2 + index * ROW, "bid");
    });
    const { spread, bps } = book.figures();
    if (spread !== null) {
      surface.text(`spread ${book.price(spread)}  (${bps.toFixed(2)} bps)`, wide / 2, middle, colours.soft, "center", `11px ${FONT}`);
    }
    pen.globalAlpha = 1;
    if (pale) this.veil(state, why, wide, high);
    else if (!asks.length && !bids.length) surface.text("no book yet", wide / 2, middle, colours.soft, "center");
  }

  row(book, price, amount, total, largest, y, side) {
    const { surface } = this;
    const { pen, wide } = surface;
    const left = Math.min(110, wide * 0.34);
    const room = wide - left - 74;
    pen.fillStyle = colours[`${side}-bar`];
    pen.fillRect(left + 4, y + 2, Math.max(1, (amount / largest) * room), ROW - 4);
    surface.text(book.price(price), left - 4, y + ROW / 2, colours[side], "right");
    surface.text(size(amount), left + 10, y + ROW / 2, colours.ink);
    surface.text(size(total), wide - 2, y + ROW / 2, colours.soft, "right", `11px ${FONT}`);
  }

  veil(state, why, wide, high) {
    const { surface } = this;
    const { pen } = surface;
    pen.fillStyle = colours.card;
    pen.globalAlpha = 0.82;
    pen.fillRect(0, high / 2 - 30, wide, 60);
    pen.globalAlpha = 1;
    surface.text(state, wide / 2, high / 2 - 9, colours.stale, "center", `700 22px ${FONT}`);
    let words = why;
    pen.font = `12px ${FONT}`;
    while (words.length > 8 && pen.measureText(words).width > wide - 16) words = `${words.slice(0, -5).trimEnd()}…`;
    surface.text(words, wide / 2, high / 2 + 15, colours.ink, "center");
  }
}

export class Depth {
  constructor(canvas, stale) {
    this.surface = new Surface(canvas, stale);
  }

  paint(book, pale) {
    const { surface } = this;
    const { pen, wide, high } = surface;
    surface.clear();
    if (!book.bids.length || !book.asks.length) return;
    const sums = (rows) => {
      let total = 0;
      return rows.map(([price, amount]) => [price, (total += amount)]);
    };
    const [bids, asks] = [sums(book.bids), sums(book.asks)];
    const { mid } = book.figures();
    const reach = Math.max(mid - bids.at(-1)[0], asks.at(-1)[0] - mid) * 1.02 || 1;
    const most = Math.max(bids.at(-1)[1], asks.at(-1)[1]);
    const bottom = high - 16;
    const x = (price) => wide / 2 + ((price - mid) / reach) * (wide / 2 - 2);
    const y = (total) => bottom - (total / most) * (bottom - 20);
    pen.globalAlpha = pale ? 0.3 : 1;
    for (const [rows, side] of [[bids, "bid"], [asks, "ask"]]) {
      pen.beginPath();
      pen.moveTo(x(rows[0][0]), bottom);
      let before = bottom;
      for (const [price, total] of rows) {
        pen.lineTo(x(price), before);
        pen.lineTo(x(price), (before = y(total)));
      }
      const edge = side === "bid" ? 1 : wide - 1;
      pen.lineTo(edge, before);
      pen.strokeStyle = colours[side];
      pen.lineWidth = 1.5;
      pen.stroke();
      pen.lineTo(edge, bottom);
      pen.fillStyle = colours[`${side}-bar`];
      pen.fill();
    }
    pen.fillStyle = colours.line;
    pen.fillRect(wide / 2, 18, 1, bottom - 18);
    const small = `11px ${FONT}`;
    surface.text(book.price(mid - reach), 0, high - 7, colours.soft, "left", small);
    surface.text(book.price(mid, 1), wide / 2, high - 7, colours.ink, "center", small);
    surface.text(book.price(mid + reach), wide, high - 7, colours.soft, "right", small);
    surface.text(`bids ${size(bids.at(-1)[1])}`, 4, 8, colours.bid, "left", small);
    surface.text(`asks ${size(asks.at(-1)[1])}`, wide - 4, 8, colours.ask, "right", small);
    pen.globalAlpha = 1;
  }
}
