// Two results of one clip beside each other: another one lies over the left part of the player.
import { find, make, show } from "./dom.js";
import { compareWith } from "./stage.js";

const MOST = 12;
const results = []; // of this tab, the newest first: { id, form, name, of, label }, `of` the same where they have the same frames
let asked = 0;
/** @type {(result: object) => Promise<string>} */
let linkOf = async () => "";

// `playable(result)` answers a link to its mask.
export function setUpCompare(playable) {
  linkOf = playable;
  find("against").addEventListener("change", choose);
}

// A result is shown: those of the same clip can be laid beside it.
export function offerOthers(result) {
  const known = results.findIndex(({ id }) => id === result.id);
  if (known >= 0) results.splice(known, 1);
  results.unshift(result);
  results.length = Math.min(results.length, MOST);
  const others = results.filter(({ id, name, of }) => id !== result.id && name === result.name && of === result.of);
  find("against").replaceChildren(make("option", { value: "", textContent: "Source" }),
    ...others.map(({ id, label }) => make("option", { value: id, textContent: label })));
  show(find("against"), others.length > 0);
}

async function choose() {
  const mine = (asked += 1);
  const { value: id, selectedOptions } = find("against");
  const other = results.find((each) => each.id === id);
  const url = other ? await linkOf(other).catch(() => "") : "";
  if (mine === asked) await compareWith(url, results[0].label, selectedOptions[0].textContent);
}
