// The part of the clip that is masked: its start and end, set at the player or written in the form.
import { clear } from "./api.js";
import { find, seconds, show } from "./dom.js";
import { goToMoment, momentHere, showPart } from "./stage.js";

// In seconds from the clip's first frame; without an `end_s`, the part ends with the clip. `cut`: the player plays the
// part alone, since a job was ordered with it.
export const part = { start_s: 0, end_s: null, cut: false };
let length_s = null; // of the clip, where it is known
let most_s = null; // of a part, where the clip is longer than what is masked at once
let tell = () => {};

export function setUpTrim(onChange) {
  tell = onChange;
  for (const id of ["trim-start", "trim-end"]) find(id).addEventListener("change", onTyped);
  find("trim-here").addEventListener("click", () => change({ start_s: momentHere().from_s }));
  find("trim-to-here").addEventListener("click", () => change({ end_s: momentHere().until_s }));
  find("trim-clear").addEventListener("click", () => change(longest()));
}

// As much of the clip as is masked at once, from its start.
const longest = () => ({ start_s: 0, end_s: most_s });

export const isWhole = () => part.start_s === 0 && part.end_s === null;

// The part as a body's fields.
export const partFields = () => ({ ...(part.start_s ? { start_s: part.start_s } : {}), ...(part.end_s === null ? {} : { end_s: part.end_s }) });

// How long the part is, where that is known.
export const partLength_s = () => (part.end_s ?? length_s ?? NaN) - part.start_s;

export function setPart({ start_s = 0, end_s = null } = {}, cut = false) {
  Object.assign(part, { start_s, end_s, cut });
  render();
}

// Offered for a clip of this length that is not masked yet; the service may mask at most a part of it at once.
export function offerTrim(can, clipLength_s = null, mostAtOnce_s = null) {
  length_s = clipLength_s;
  most_s = mostAtOnce_s;
  for (const id of ["trim", "trim-here", "trim-to-here"]) show(find(id), can);
  render();
}

function change(changed) {
  const wanted = { ...part, ...changed };
  if (length_s !== null && wanted.end_s >= length_s) wanted.end_s = null;
  const last_s = wanted.end_s ?? length_s ?? Infinity;
  clear(find("trim-error"));
  for (const id of ["trim-start", "trim-end"]) find(id).removeAttribute("aria-invalid");
  if (wanted.start_s >= last_s) {
    // The other end was set before: the newest one is meant.
    if ("start_s" in changed) wanted.end_s = null;
    else wanted.start_s = 0;
  }
  if (length_s !== null && wanted.start_s >= length_s) return refuse("trim-start", `The clip lasts ${seconds(length_s)}: start before its end.`);
  // The other end follows where the part is longer than what is masked at once.
  if (most_s !== null && (wanted.end_s ?? length_s) - wanted.start_s > most_s) {
    if ("start_s" in changed) wanted.end_s = wanted.start_s + most_s;
    else wanted.start_s = (wanted.end_s ?? length_s) - most_s;
  }
  setPart(wanted);
  tell();
}

function onTyped(event) {
  const { id, value } = event.target;
  const typed_s = momentOf(value);
  if (typed_s === undefined) return refuse(id, "Write a time as 62.5 or 1:02.5.");
  if (id === "trim-end") return change({ end_s: typed_s });
  change({ start_s: typed_s ?? 0 });
  goToMoment(part.start_s);
}

function refuse(id, why) {
  find("trim-error").textContent = why;
  show(find("trim-error"));
  find(id).setAttribute("aria-invalid", "true");
}

// The seconds of a text like 62.5 or 1:02.5; null of an empty one, undefined of any other.
function momentOf(text) {
  if (text.trim() === "") return null;
  const found = /^\s*(?:(\d+):)?(\d+(?:[.,]\d+)?)\s*$/.exec(text);
  return found ? 60 * Number(found[1] ?? 0) + Number(found[2].replace(",", ".")) : undefined;
}

// Where the part begins, for people; nothing where it begins with the clip.
export const beginsAt = () => (part.start_s ? `from ${textOf(part.start_s)}` : "");

const textOf = (time_s) => `${Math.floor(time_s / 60)}:${(time_s % 60).toFixed(3).padStart(6, "0")}`;

function render() {
  find("trim-start").value = part.start_s ? textOf(part.start_s) : "";
  find("trim-end").value = part.end_s === null ? "" : textOf(part.end_s);
  find("trim-end").placeholder = length_s === null ? "its end" : textOf(length_s);
  const { start_s, end_s } = longest();
  find("trim-clear").textContent = most_s === null ? "All of it" : `The first ${seconds(most_s)}`;
  show(find("trim-clear"), part.start_s !== start_s || part.end_s !== end_s);
  const isMost = most_s !== null && partLength_s() > most_s - 0.001;
  const said = `${seconds(partLength_s())} of the clip${isMost ? ", the most that is masked at once" : ""}`;
  find("trim-said").textContent = isWhole() || Number.isNaN(partLength_s()) ? "" : said;
  if (!part.cut) showPart(part);
}
