// Asks for the token: takes it from the address's fragment, or from what the user types.
import { find, show } from "./dom.js";
import { forgetAll } from "./memory.js";
import { askJson, clear, explain } from "./api.js";
import { carry, drop, hold, isKept, token } from "./held-token.js";

const waiting = [];

// The reference in another tab of this browser asks for it.
const tabs = new BroadcastChannel("foremask-token");
tabs.addEventListener("message", ({ data }) => data === "ask" && token() && tabs.postMessage({ token: token() }));

// Resolves once there is a token that the service knows.
export function needToken() {
  if (token()) return Promise.resolve();
  open();
  return new Promise((resolve) => waiting.push(resolve));
}

export async function setUpToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search); // it stays out of the history and of bookmarks
  find("token-show").addEventListener("click", () => open(find("token-form").hidden));
  find("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    use(find("token").value.trim());
  });
  find("token-forget").addEventListener("click", forget);
  find("token-keep").checked = isKept();
  find("token-keep").addEventListener("change", () => token() && keep(token()));
  render();
  if (given && given !== token()) return token() ? offer(given) : use(given);
  if (!token()) return; // it is asked for when it is needed
  const doubt = await doubts();
  if (doubt) refuse(doubt);
}

// A link never replaces the token that is in use: whoever made it may want this person's clips.
function offer(given) {
  find("token").value = given;
  open();
  explain(find("token-error"), new Error(`This link has another token, ${given.slice(0, 6)}…. Press Use to work with it instead of yours.`), find("token"));
}

// A call was refused for its token: ask for another.
export function refuse(error) {
  open();
  explain(find("token-error"), error, find("token"));
}

function open(shown = true) {
  show(find("token-form"), shown);
  find("token-show").setAttribute("aria-expanded", String(shown));
  if (shown) find("token").focus();
}

async function use(text) {
  clear(find("token-error"), find("token"));
  const before = token();
  carry(text);
  const doubt = await doubts();
  if (doubt) {
    carry(before);
    return refuse(doubt);
  }
  keep(text);
  find("token").value = "";
  open(false);
  for (const resolve of waiting.splice(0)) resolve();
}

// What the service has against the token, or null.
async function doubts() {
  try {
    await askJson("GET", "/v2/jobs?limit=1");
  } catch (error) {
    return error;
  }
  return null;
}

function keep(text) {
  hold(text, find("token-keep").checked);
  render();
}

function forget() {
  drop();
  forgetAll();
  find("token-keep").checked = false;
  render();
  open();
}

function render() {
  const held = token();
  find("token-held").textContent = held
    ? `In use: ${held.slice(0, 6)}… ${isKept() ? "It stays in this browser until you forget it." : "It goes when this tab closes."}`
    : "";
  show(find("token-held"), Boolean(held));
  show(find("token-forget"), Boolean(held));
  find("token-show").textContent = held ? "Token ✓" : "Token";
  document.dispatchEvent(new Event("token"));
}
