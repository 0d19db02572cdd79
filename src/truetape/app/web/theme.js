// Light and dark: what the system prefers, or what the switch says. Canvases cannot use CSS variables, so their values are read here.
const NAMES = ["paper", "card", "ink", "soft", "line", "focus", "bid", "ask", "bid-bar", "ask-bar", "trace", "live", "quiet", "syncing", "gap", "stale",
  "suspect", "closed", "on-live", "on-pale"];
const system = matchMedia("(prefers-color-scheme: dark)");
const probe = document.createElement("span");
const listeners = [];

export const colours = {};

function read() {
  document.body.append(probe);
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
}

const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function changed(button) {
  button.textContent = dark() ? "light" : "dark";
  button.setAttribute("aria-label", `show it ${button.textContent}`);
  read();
  for (const listener of listeners) listener();
}

/** Call `listener` whenever colours change. */
export const onTheme = (listener) => listeners.push(listener);

/** Read the colours, and make the button a switch; returns what it does. */
export function begin(button) {
  const kept = localStorage.getItem("truetape.theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  const flip = () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem("truetape.theme", document.documentElement.dataset.theme);
    changed(button);
  };
  button.addEventListener("click", flip);
  system.addEventListener("change", () => changed(button));
  changed(button);
  return flip;
}
