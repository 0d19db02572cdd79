// Traces over the last two minutes, and the histogram of delays.
import { FONT, Surface } from "./surface.js";
import { colours } from "./theme.js";

const SPAN_MS = 120_000;
const BREAK_MS = 4_000; // a longer silence is a hole in the line, not a bridge
const SMALL = `11px ${FONT}`;

export class Traces {
  constructor(canvas, stale) {
    this.surface = new Surface(canvas, stale);
  }

  paint(book, now) {
    const { surface } = this;
    surface.clear();
    const points = book.points.filter(([at]) => at > now - SPAN_MS);
    const high = surface.high / 3;
    this.line(points, 1, 0, high, now, "spread, bps", (value) => value.toFixed(2), 0);
    this.line(points, 2, high, high, now, "imbalance, 5 levels", (value) => value.toFixed(2), -1, 1);
    this.line(points, 3, 2 * high, high, now, "microprice", (value) => book.price(value, 1));
  }

  line(points, column, top, high, now, name, words, low, up) {
    const { surface } = this;
    const { pen, wide } = surface;
    const [head, foot, right] = [top + 15, top + high - 4, wide - 64];
    pen.fillStyle = colours.line;
    pen.fillRect(0, foot + 1, right, 1);
    surface.text(name, 0, top + 7, colours.soft, "left", SMALL);
    if (!points.length) return;
    let [least, most] = [low ?? Infinity, up ?? -Infinity];
    for (const point of points) {
      if (low === undefined && point[column] < least) least = point[column];
      if (up === undefined && point[column] > most) most = point[column];
    }
    if (!(most > least)) [least, most] = [least - 1e-9 - Math.abs(least) * 1e-6, most + 1e-9 + Math.abs(most) * 1e-6];
    const x = (at) => right - ((now - at) / SPAN_MS) * right;
    const y = (value) => foot - ((value - least) / (most - least)) * (foot - head);
    if (low === -1) pen.fillRect(0, y(0), right, 1);
    pen.beginPath();
    let before = -Infinity;
    for (const point of points) {
      if (point[0] - before > BREAK_MS) pen.moveTo(x(point[0]), y(point[column]));
      else pen.lineTo(x(point[0]), y(point[column]));
      before = point[0];
    }
    pen.strokeStyle = colours.trace;
    pen.lineWidth = 1.25;
    pen.stroke();
    const last = points.at(-1)[column];
    surface.text(words(most), wide, head, colours.soft, "right", SMALL);
    surface.text(words(least), wide, foot - 3, colours.soft, "right", SMALL);
    const place = Math.min(foot - 16, Math.max(head + 13, y(last)));
    surface.text(words(last), wide, place, colours.ink, "right", `600 ${SMALL}`);
  }
}

export class Delays {
  constructor(canvas, stale) {
    this.surface = new Surface(canvas, stale);
  }

  /** `rows` of all connections: [upper edge in ms, count]. The axis is logarithmic, two bars for each doubling. */
  paint(rows) {
    const { surface } = this;
    const { pen, wide, high } = surface;
    surface.clear();
    const bins = new Map();
    for (const [edge, count] of rows) {
      const bin = Math.ceil(Math.log2(Math.max(edge, 1e-4)) * 2 - 1e-9);
      bins.set(bin, (bins.get(bin) ?? 0) + count);
    }
    if (!bins.size) {
      surface.text("nothing measured yet", wide / 2, high / 2, colours.soft, "center");
      return;
    }
    const first = Math.min(...bins.keys()) - 1;
    const last = Math.max(...bins.keys(), first + 8);
    const most = Math.max(...bins.values());
    const step = wide / (last - first);
    const bottom = high - 16;
    const each = Math.max(1, Math.ceil(56 / step));
    for (let bin = first + 1; bin <= last; bin++) {
      const count = bins.get(bin) ?? 0;
      const tall = count ? Math.max(2, (count / most) * (bottom - 6)) : 0;
      pen.fillStyle = colours.trace;
      pen.fillRect((bin - first - 1) * step + 1, bottom - tall, Math.max(1, step - 2), tall);
      if ((bin - first) % each === 0) surface.text(span(2 ** (bin / 2)), (bin - first) * step, high - 7, colours.soft, "center", SMALL);
    }
    pen.fillStyle = colours.line;
    pen.fillRect(0, bottom, wide, 1);
  }
}

/** A duration in words. */
export function span(ms) {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  return ms < 1000 ? `${Number(ms.toPrecision(2))} ms` : `${Number((ms / 1000).toPrecision(2))} s`;
}
