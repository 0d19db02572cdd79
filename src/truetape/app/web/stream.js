// The gateway's own downstream protocol over a WebSocket: comes back by itself, notices when the other side is gone, speaks in callbacks.
const FIRST_MS = 250;
const MOST_MS = 5000;
const PING_MS = 4000;
const DEAD_MS = 10000;

export class Stream {
  /** `on`: said(message), up(hello), down(why, inMs), token(why). `token()` gives the token there is, or "". */
  constructor(on, token) {
    this.on = on;
    this.token = token;
    this.socket = null;
    this.tries = 0;
    this.heard = 0;
    this.bye = "";
    this.timer = 0;
    setInterval(() => this.beat(), PING_MS);
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, "truetape.v1.json"));
    this.heard = performance.now();
    this.bye = "";
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heard = performance.now();
      this.take(JSON.parse(event.data));
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.lost(event);
    };
  }

  take(message) {
    switch (message.type) {
      case "hello":
        this.hello = message;
        if (message.token === "none") this.ready();
        else if (this.token()) this.say({ type: "authenticate", token: this.token() });
        else this.ask("");
        break;
      case "authenticated":
        this.ready(message.allow);
        break;
      case "bye":
        this.bye = `${message.reason}: ${message.text}`;
        this.again = message.code < 4500 || message.code > 4505;
        this.after = message.retry_after_s * 1000;
        break;
      case "pong":
        break;
      default:
        this.on.said(message);
    }
  }

  ready(allow = ["*"]) {
    this.tries = 0;
    this.on.up(this.hello, allow);
  }

  /** Leave, and wait for a person's token. */
  ask(why) {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.on.token(why);
  }

  lost(event) {
    this.socket = null;
    if (event.code >= 4500 && event.code <= 4504) {
      this.on.token(this.bye || `closed with ${event.code}`);
      return;
    }
    const most = Math.min(MOST_MS, FIRST_MS * 2 ** this.tries++);
    const wait = most / 2 + (Math.random() * most) / 2; // so that a thousand pages do not come back together
    this.on.down(this.bye || "the connection to the gateway was lost", wait);
    this.timer = setTimeout(() => this.open(), wait);
  }

  say(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  beat() {
    const socket = this.socket;
    if (!socket) return;
    if (performance.now() - this.heard > DEAD_MS) {
      socket.onclose = socket.onmessage = null;
      socket.close();
      this.lost({ code: 1006 });
    } else this.say({ type: "ping", ts: 0 });
  }
}
