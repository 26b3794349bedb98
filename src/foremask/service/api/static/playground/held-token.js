// The token that calls carry, and where the browser keeps it.
const KEY = "foremask-token";
let held = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";

export const token = () => held;

export const isKept = () => localStorage.getItem(KEY) !== null;

// Calls carry it from now on, and nothing stores it.
export function carry(text) {
  held = text;
}

// With `keep` it outlives this tab.
export function hold(text, keep) {
  held = text;
  sessionStorage.setItem(KEY, text);
  if (keep) localStorage.setItem(KEY, text);
  else localStorage.removeItem(KEY);
}

export function drop() {
  held = "";
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}
