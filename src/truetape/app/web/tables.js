// Tables whose rows are made once and filled again: no element is made or removed while data flow.
import { size } from "./book.js";
import { look } from "./states.js";

export class Rows {
  constructor(body, columns, most) {
    this.body = body;
    this.rows = Array.from({ length: most }, () => {
      const row = body.appendChild(document.createElement("tr"));
      row.hidden = true;
      return { row, cells: Array.from({ length: columns }, () => row.appendChild(document.createElement("td"))) };
    });
  }

  /** `lines`: [class, [text of each cell]]. What is the same is left alone. */
  fill(lines) {
    this.rows.forEach(({ row, cells }, index) => {
      const line = lines[index];
      if (row.hidden !== (line === undefined)) row.hidden = line === undefined;
      if (line === undefined) return;
      if (row.className !== line[0]) row.className = line[0];
      cells.forEach((cell, at) => {
        if (cell.textContent !== line[1][at]) cell.textContent = line[1][at];
      });
    });
  }
}

export const clock = (ns) => {
  const at = new Date(ns / 1e6);
  return `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
};

export class Trades {
  constructor(body) {
    this.table = new Rows(body, 4, 26);
    this.list = [];
    this.dirty = true;
  }

  clear() {
    this.list = [];
    this.dirty = true;
  }

  take(event) {
    this.list.unshift(event);
    if (this.list.length > 26) this.list.length = 26;
    this.dirty = true;
  }

  paint(book) {
    this.dirty = false;
    this.table.fill(this.list.map((t) => [t.side ?? "", [clock(t.ts || t.recv), book.price(t.price), size(t.size), t.side || "-"]]));
  }
}

/** What happened, newest first. */
export class Log {
  constructor(body) {
    this.table = new Rows(body, 3, 100);
    this.list = [];
    this.dirty = true;
  }

  add(kind, words, state) {
    this.list.unshift(["", [new Date().toLocaleTimeString("en-GB"), `${look(state).sign} ${kind}`, words]]);
    if (this.list.length > 100) this.list.length = 100;
    this.dirty = true;
  }

  paint() {
    this.dirty = false;
    this.table.fill(this.list);
  }
}

/** Buses: what takes nothing comes first. */
export class Sinks {
  constructor(body) {
    this.table = new Rows(body, 9, 20);
  }

  paint(rows) {
    const whole = (value) => value.toLocaleString("en");
    const shown = [...rows].sort((a, b) => (a.state === "UP") - (b.state === "UP") || a.name.localeCompare(b.name)).slice(0, 20);
    this.table.fill(shown.map((row) => {
      const lost = row.ledger.dropped + row.ledger.expired + row.expired + row.refused + row.abandoned;
      return [row.state === "UP" ? "" : "down", [
        `${row.name} (${row.kind})`, `${row.state === "UP" ? "●" : "○"} ${row.state}`, whole(row.published), `${(row.bytes / 1e6).toFixed(1)} MB`,
        `${whole(row.queued)}, ${(row.queue_bytes / 1e3).toFixed(0)} kB`, whole(lost), whole(row.ledger.conflated), whole(row.reconnects), row.last_error,
      ]];
    }));
  }
}

export class Clients {
  constructor(body) {
    this.table = new Rows(body, 9, 100);
  }

  paint(rows) {
    const whole = (value) => value.toLocaleString("en");
    const shown = [...rows].sort((a, b) => b.buffered_bytes - a.buffered_bytes || a.number - b.number).slice(0, 100);
    this.table.fill(shown.map((row) => {
      const sum = (...names) => whole(row.subscriptions.reduce((total, one) => total + names.reduce((s, n) => s + (one[n] ?? 0), 0), 0));
      return [row.blocked ? "blocked" : "", [
        `#${row.number} ${row.name ?? "(no token yet)"}`, row.address, `${Math.round(row.connected_s)} s`, `${(row.bytes_out / 1e6).toFixed(1)} MB`,
        row.blocked ? `blocked, ${whole(row.buffered_bytes)} B` : `${whole(row.buffered_bytes)} B`,
        sum("received"), sum("delivered"), sum("dropped", "expired"), sum("conflated"),
      ]];
    }));
  }
}
