// The states of a subscription: each has a colour and a sign, so that colour is never the only cue.
export const STATES = {
  LIVE: { sign: "•", colour: "live", ink: "on-live", means: "its book or data are as the venue's" },
  QUIET: { sign: "–", colour: "quiet", ink: "on-pale", means: "nothing is due" },
  SYNCING: { sign: "…", colour: "syncing", ink: "on-pale", means: "waits for its first data" },
  RESYNC: { sign: "R", colour: "syncing", ink: "on-pale", means: "begins anew" },
  GAP: { sign: "G", colour: "gap", ink: "on-live", means: "something is missing" },
  STALE: { sign: "!", colour: "stale", ink: "on-live", means: "silent for longer than it should be" },
  SUSPECT: { sign: "?", colour: "suspect", ink: "on-live", means: "does not look as it should" },
  CLOSED: { sign: "×", colour: "closed", ink: "on-pale", means: "ended" },
  UNKNOWN: { sign: " ", colour: "closed", ink: "on-pale", means: "no connection to the gateway: nobody knows" },
};

export const look = (state) => STATES[state] ?? STATES.UNKNOWN;

/** A small coloured square with the state's sign, then the state's name. */
export function badge(element, state, count) {
  const { sign, colour, ink } = look(state);
  const square = element.firstElementChild ?? element.appendChild(document.createElement("i"));
  const words = square.nextSibling ?? element.appendChild(document.createTextNode(""));
  if (element.dataset.state !== state) {
    element.dataset.state = state;
    square.textContent = sign;
    square.style.background = `var(--${colour})`;
    square.style.color = `var(--${ink})`;
  }
  const text = count === undefined ? state : `${state} ${count}`;
  if (words.data !== text) words.data = text;
}
