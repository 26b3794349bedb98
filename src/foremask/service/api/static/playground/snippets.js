// The tabs with what is chosen on the page, as a program.
import { find, make } from "./dom.js";
import { callOf, PROGRAMS } from "./programs.js";

const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };
let chosen = "curl";
let call = callOf({});

export function setUpSnippets() {
  for (const [value, label] of Object.entries(LANGUAGES)) {
    const tab = make("button", { type: "button", id: `code-tab-${value}`, textContent: label });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "code-panel");
    tab.addEventListener("click", () => choose(value));
    find("code-tabs").append(tab);
  }
  find("code-tabs").addEventListener("keydown", (event) => {
    const names = Object.keys(LANGUAGES);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    choose(names[(names.indexOf(chosen) + step + names.length) % names.length]);
    find(`code-tab-${chosen}`).focus();
  });
  find("code-copy").addEventListener("click", async () => {
    const range = document.createRange();
    range.selectNodeContents(find("code-text"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    await navigator.clipboard?.writeText(find("code-text").textContent).catch(() => {});
    find("code-copy").textContent = navigator.clipboard ? "Copied" : "Selected";
    setTimeout(() => (find("code-copy").textContent = "Copy"), 1500);
  });
  choose(chosen);
}

// The form's `body`; and a cut-out where the player shows one: `seen` as the stage tells, with the matte's fields.
export function showFields(body, seen, matte) {
  call = callOf(body, seen, matte);
  render();
}

function render() {
  find("code-text").textContent = PROGRAMS[chosen](location.origin, call);
}

function choose(value) {
  chosen = value;
  for (const each of Object.keys(LANGUAGES)) {
    find(`code-tab-${each}`).setAttribute("aria-selected", String(each === value));
    find(`code-tab-${each}`).tabIndex = each === value ? 0 : -1;
  }
  find("code-panel").setAttribute("aria-labelledby", `code-tab-${value}`);
  render();
}
