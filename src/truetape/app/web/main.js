// The page: one stream, two polls, one paint for each animation frame.
import { BookView } from "./book.js";
import { Delays, span, Traces } from "./charts.js";
import { Feeds } from "./feeds.js";
import { Grid } from "./grid.js";
import { Depth, Ladder } from "./ladder.js";
import { badge, STATES } from "./states.js";
import { Stream } from "./stream.js";
import { Clients, Log, Sinks, Trades } from "./tables.js";
import { begin as beginTheme, onTheme } from "./theme.js";

const POLL_MS = 1500;
const BOOK_MS = 50; // whole books at most so often
const LEVELS = 40;
const PATIENCE_MS = 2000;
const SETTLE_MS = 150; // a held key passes many symbols; only the one it stops at is subscribed
const STATUS_ID = 1;
const by = (id) => document.getElementById(id);

let wanted = false;
const soon = () => {
  if (!wanted) {
    wanted = true;
    requestAnimationFrame(paint);
  }
};

const flip = beginTheme(by("theme"));
const log = new Log(by("events"));
const feeds = new Feeds(log);
const book = new BookView();
const trades = new Trades(by("trades"));
const stale = () => {
  book.dirty = true;
  late = true;
  soon();
};
const grid = new Grid(feeds, by("grid"), by("tip"), by("cell"), choose, soon);
const ladder = new Ladder(by("ladder"), stale);
const depth = new Depth(by("depth"), stale);
const traces = new Traces(by("traces"), stale);
const delays = new Delays(by("delays"), stale);
const clients = new Clients(by("clients"));
const sinks = new Sinks(by("sinks"));
onTheme(stale);

let late = true; // the delay histogram is another
let histogram = [];
let next = STATUS_ID;
let bookId = -1;
let tradeId = -1;
let epoch = "";
let settling = 0;
let refused = "";
let since = 0; // when the connection to the gateway was made

const KEY = "truetape.token";
const token = () => sessionStorage.getItem(KEY) ?? "";
const stream = new Stream({ said, up, down, token: askToken }, token);

// -- the stream ---------------------------------------------------------------------------------------------------------

function up(hello, allow) {
  document.body.dataset.link = "open";
  by("link").textContent = "connected";
  by("banner").hidden = true;
  if (epoch && epoch !== hello.epoch) log.add("link", "the gateway was restarted", "RESYNC");
  else if (epoch) log.add("link", "connected to the gateway again", "LIVE");
  epoch = hello.epoch;
  refused = "";
  since = performance.now();
  feeds.begin();
  const venues = allow.includes("*") ? ["*"] : patterns(allow);
  next = STATUS_ID;
  bookId = tradeId = -1;
  stream.say({ type: "subscribe", id: STATUS_ID, symbols: venues, channels: ["status"], bound: 1 });
  soon();
  poll();
}

/** What a token allows, as one subscribes: `kraken:BTC-USD/trade` -> `kraken:BTC-USD`; a star for the venue with a symbol cannot be asked for. */
function patterns(allow) {
  const found = allow.map((text) => text.split("/")[0]).map((text) => (text === "*" || text.includes(":") ? text : `${text}:*`));
  const sure = found.filter((text) => !text.startsWith("*:") || text === "*:*").map((text) => (text === "*:*" ? "*" : text));
  return sure.length ? [...new Set(sure)] : ["*"];
}

function down(why, wait) {
  document.body.dataset.link = "down";
  by("link").textContent = "not connected";
  const banner = by("banner");
  banner.textContent = `${why}; what is shown is not current. Trying again in ${span(wait)}.`;
  if (banner.hidden) log.add("link", why, "GAP");
  banner.hidden = false;
  feeds.forget();
  book.dirty = true;
  soon();
}

function askToken(why) {
  document.body.dataset.link = "down";
  by("link").textContent = "waits for a token";
  if (why) by("ask-why").textContent = why;
  sessionStorage.removeItem(KEY);
  feeds.forget();
  if (!by("ask").open) by("ask").showModal();
  soon();
}

by("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, by("token").value.trim());
  by("token").value = "";
  by("ask").close();
  stream.open();
});

function said(message) {
  if (message.type === "data") {
    const take = message.id === STATUS_ID ? notice : message.id === bookId ? bookEvent : message.id === tradeId ? tradeEvent : null;
    if (take) for (const event of message.events) take(event);
    soon();
  } else if (message.type === "subscribed" && message.id === STATUS_ID) {
    choose(book.name || decodeURIComponent(location.hash.slice(1)));
  } else if (message.type === "error") {
    refused = message.text;
    log.add("refused", message.text, "SUSPECT");
    soon();
  }
}

function notice(event) {
  feeds.notice(event);
  if (event.channel === "book" && `${event.venue}:${event.symbol}` === book.name) book.dirty = true;
}

function bookEvent(event) {
  if (event.kind === "book" && event.snapshot) book.take(event);
}

function tradeEvent(event) {
  if (event.kind === "trade") trades.take(event);
  else if (event.kind === "lagged") log.add("lagged", `this page missed ${event.dropped} trades of ${event.symbol}: ${event.reason}`, "GAP");
}

// -- the chosen symbol --------------------------------------------------------------------------------------------------

function choose(name) {
  if (name !== book.name) {
    book.clear(name);
    trades.clear();
    if (name) history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  }
  grid.select(name);
  by("book-name").textContent = name || "no symbol";
  clearTimeout(settling);
  settling = setTimeout(subscribe, bookId < 0 && tradeId < 0 ? 0 : SETTLE_MS);
}

/** Only what the venue sends already: looking must not change what the gateway asks for. */
function subscribe() {
  for (const id of [bookId, tradeId]) if (id >= 0) stream.say({ type: "unsubscribe", id });
  bookId = tradeId = -1;
  if (!feeds.known) return;
  if (!feeds.of(book.name, "book") && !feeds.of(book.name, "trade")) {
    if (book.name && performance.now() - since < PATIENCE_MS) {
      settling = setTimeout(subscribe, SETTLE_MS); // its status may still be on its way
      return;
    }
    const first = feeds.first();
    if (first && first !== book.name) choose(first);
    return;
  }
  const symbols = [book.name];
  if (feeds.of(book.name, "book")) {
    bookId = ++next;
    stream.say({ type: "subscribe", id: bookId, symbols, channels: ["book"], mode: "conflate", conflate_ms: BOOK_MS, depth: LEVELS });
  }
  if (feeds.of(book.name, "trade")) {
    tradeId = ++next;
    stream.say({ type: "subscribe", id: tradeId, symbols, channels: ["trade"], bound: 200 });
  }
}

// -- the polls ----------------------------------------------------------------------------------------------------------

let polling = 0;

async function poll() {
  clearTimeout(polling);
  polling = setTimeout(poll, POLL_MS);
  if (document.hidden || document.body.dataset.link !== "open") return;
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  try {
    const [status, who] = await Promise.all(["/status?subscriptions=no&delays=yes", "/clients"].map((path) => fetch(path, { headers })));
    if (status.status === 401 || status.status === 403) {
      by("late-text").textContent = by("who-text").textContent = "for tokens of role ops or admin";
      return;
    }
    if (status.ok && who.ok) tell(await status.json(), await who.json());
  } catch {
    // the gateway is gone: the stream says so
  }
}

function tell(status, who) {
  const memory = status.memory;
  const used = memory ? ` · ${Math.round(memory.rss_mb)} of ${memory.budget_mb} MB` : "";
  const lag = Math.round((status.loop_lag_ms ?? 0) * 10) / 10;
  by("process").textContent = `${status.version} · up ${up_for(status.uptime_s)}${used} · loop lag ${lag} ms`;
  histogram = Object.values(status.delays ?? {}).flat();
  late = true;
  const delay = (ms) => (ms === null ? "-" : span(ms));
  const rows = status.connections.map((row) => `${row.name} ${delay(row.delay_ms_p50)} / ${delay(row.delay_ms_p99)}`);
  by("late-text").textContent = (rows.length > 4 ? [...rows.slice(0, 3), `and ${rows.length - 3} more`] : rows).join("\n");
  by("who-text").textContent = `${who.length} connected`;
  clients.paint(who);
  by("buses").hidden = !status.sinks?.length;
  sinks.paint(status.sinks ?? []);
  soon();
}

function up_for(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

// -- painting -----------------------------------------------------------------------------------------------------------

const counted = new Map();
let listed = "";

function counts() {
  const tally = feeds.tally();
  for (const state of Object.keys(STATES)) {
    let item = counted.get(state);
    const count = tally.get(state) ?? 0;
    if (!item && !count) continue;
    if (!item) {
      item = by("counts").appendChild(document.createElement("li"));
      counted.set(state, item);
    }
    item.hidden = !count;
    badge(item, state, count);
  }
}

function list() {
  const names = [...new Set(feeds.order.map((row) => row.name))];
  if (names.join() === listed) return;
  listed = names.join();
  by("symbols").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
}

function paint() {
  wanted = false;
  const anew = feeds.reset;
  if (anew || feeds.dirty.size || grid.whole) {
    grid.paint();
    counts();
    if (anew) list();
    if (anew && feeds.known && bookId < 0 && tradeId < 0) choose(book.name);
  }
  if (book.dirty) paintBook();
  if (trades.dirty) trades.paint(book);
  if (log.dirty) log.paint();
  if (late) {
    late = false;
    delays.paint(histogram);
  }
}

function paintBook() {
  book.dirty = false;
  const row = feeds.of(book.name, "book");
  const state = !feeds.known ? "UNKNOWN" : row ? row.state : "CLOSED";
  const why = !feeds.known ? "no connection to the gateway" : row ? row.reason : refused || "no book of this symbol is subscribed";
  ladder.paint(book, state, why);
  depth.paint(book, state !== "LIVE" && state !== "QUIET");
  traces.paint(book, performance.now());
  badge(by("book-state"), state);
  by("book-why").textContent = row ? `proof: ${row.evidence}${row.reason ? `; ${row.reason}` : ""}` : "";
  const { mid, spread, bps, micro, imbalance } = book.figures(state === "LIVE" || state === "QUIET");
  by("mid").textContent = mid === null ? "-" : book.price(mid, 1);
  by("spread").textContent = spread === null ? "-" : `${bps.toFixed(2)} bps`;
  by("micro").textContent = micro === null ? "-" : book.price(micro, 1);
  by("imbalance").textContent = imbalance === null ? "-" : imbalance.toFixed(2);
}

setInterval(() => {
  book.dirty = true; // the traces move on even where nothing comes
  if (!document.hidden) soon();
}, 1000);

// -- the person ---------------------------------------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => document.hidden || poll());
by("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = by("symbol").value.trim().toLowerCase();
  const names = feeds.order.map((row) => row.name);
  const found = names.find((name) => name.toLowerCase() === text) ?? names.find((name) => name.toLowerCase().includes(text));
  if (found) choose(found);
});
by("symbol").addEventListener("change", () => by("find").requestSubmit());
document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    by("symbol").focus();
    by("symbol").select();
  } else if (event.key === "t") flip();
  else if (event.key === "[" || event.key === "]") {
    const at = feeds.books.indexOf(book.name) + (event.key === "]" ? 1 : -1);
    const name = feeds.books[(at + feeds.books.length) % feeds.books.length];
    if (name) choose(name);
  } else return;
  event.preventDefault();
});

stream.open();
