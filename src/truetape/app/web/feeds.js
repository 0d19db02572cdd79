// Nobody wants it any more: it is not shown. What a venue refused is.
const gone = (reason) => reason === "unsubscribed" || reason.startsWith("removed from the configuration");

// What is known of every subscription and connection, told by the channel `status`: at once all of it, then each change.
export class Feeds {
  constructor(log) {
    this.log = log;
    this.rows = new Map(); // "venue:SYMBOL/channel" -> row
    this.order = []; // the rows as they are shown
    this.books = []; // "venue:SYMBOL" of each that has a book, in the same order
    this.counts = new Map();
    this.links = new Map();
    this.known = false;
    this.reset = true; // the order is another
    this.dirty = new Set(); // rows whose state changed
  }

  /** The connection to the gateway is gone: what was known is known no more. */
  forget() {
    this.known = false;
    this.reset = true;
  }

  /** A new connection tells everything anew. */
  begin() {
    this.rows.clear();
    this.links.clear();
    this.known = true;
    this.reset = true;
  }

  notice(event) {
    if (event.kind === "gap") {
      const blind = `blind for ${((event.to_ts - event.from_ts) / 1e9).toFixed(1)} s`;
      const healed = event.recovered ? `, healed${event.healed ? ` by ${event.healed}` : ""}` : "";
      this.log.add("gap", `${event.venue}:${event.symbol}/${event.channel}: ${event.reason}, ${blind}${healed}`, event.recovered ? "LIVE" : "GAP");
      return;
    }
    if (event.kind !== "status") return;
    if (event.channel === undefined || event.channel === "") return this.link(event);
    const key = `${event.venue}:${event.symbol}/${event.channel}`;
    let row = this.rows.get(key);
    const before = row?.state;
    if (event.state === "CLOSED" && gone(event.reason ?? "")) {
      if (row) {
        this.rows.delete(key);
        this.dirty.delete(row);
        this.reset = true;
        this.log.add("state", `${key}: ${event.reason}`, "CLOSED");
      }
      return;
    }
    if (!row) {
      row = { key, name: `${event.venue}:${event.symbol}`, venue: event.venue, symbol: event.symbol, channel: event.channel };
      this.rows.set(key, row);
      this.reset = true;
    }
    row.state = event.state;
    row.reason = event.reason;
    row.evidence = event.evidence ?? "none";
    row.since = event.since ?? 0;
    row.threshold = event.threshold_s ?? 0;
    row.samples = event.samples ?? 0;
    this.dirty.add(row);
    const said = before !== undefined && before !== row.state && !(before === "SYNCING" && row.state === "LIVE"); // a beginning is no event
    if (said) this.log.add("state", `${key}: ${before} → ${row.state}${row.reason ? `, ${row.reason}` : ""}`, row.state);
  }

  link(event) {
    const before = this.links.get(event.symbol);
    this.links.set(event.symbol, event.state);
    if ((before === undefined && event.state === "OPEN") || before === event.state) return;
    const name = event.symbol || event.venue || "gateway";
    this.log.add("link", `${name}: ${event.state}${event.reason ? `, ${event.reason}` : ""}`, event.state === "OPEN" || event.state === "OK" ? "LIVE" : "GAP");
  }

  /** Put the rows in order, where there are other ones than before. */
  arrange() {
    const by = (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
    this.order = [...this.rows.values()].sort(by);
    this.order.forEach((row, index) => (row.index = index));
    this.books = this.order.filter((row) => row.channel === "book").map((row) => row.name);
  }

  /** The first symbol with a book, as the configuration has it, else the first of all. */
  first() {
    const rows = [...this.rows.values()];
    return (rows.find((row) => row.channel === "book") ?? rows[0])?.name;
  }

  tally() {
    this.counts.clear();
    for (const row of this.order) {
      const state = this.known ? row.state : "UNKNOWN";
      this.counts.set(state, (this.counts.get(state) ?? 0) + 1);
    }
    return this.counts;
  }

  of(name, channel) {
    return this.rows.get(`${name}/${channel}`);
  }
}
