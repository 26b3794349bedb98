// The list of recent jobs: the service's, with cut-outs of this browser's where it has some.
import { askJson, complain, OURS } from "./api.js";
import { find, make, setUpMenu, show } from "./dom.js";
import { forget, marksOf, thumbnail } from "./memory.js";
import { qualityLabel } from "./choices.js";
import { token } from "./held-token.js";

const PAGE = 6;
let next = null;
let all = false; // also those that programs have ordered with the same token
/** @type {(id: string) => void} */
let opened = () => {};
/** @type {(id: string) => void} */
let deleted = () => {};
let shown = "";
let renewals = 0;

// `onOpen(id)` is called for a click on a job, `onDelete(id)` once it is deleted.
export function setUpRecent(onOpen, onDelete) {
  opened = onOpen;
  deleted = onDelete;
  find("recent-more").addEventListener("click", async () => {
    const { jobs, next: following } = await page(next);
    render(jobs, following, true);
    /** @type {any} */ (find("recent-list").children[find("recent-list").children.length - jobs.length]?.querySelector("a"))?.focus();
  });
  find("recent-all").addEventListener("change", () => {
    all = find("recent-all").checked;
    renewRecent();
  });
}

// Asks for the newest jobs; without a token there are none.
export async function renewRecent() {
  const renewal = ++renewals;
  if (!token()) return render([], null, false);
  const { jobs, next: following } = await page(null).catch(() => ({ jobs: [], next: null }));
  if (renewal !== renewals) return; // a later call was answered first, or will be
  if (jobs.length === 0 && !all) {
    const others = await page(null, true).catch(() => ({ jobs: [] }));
    if (renewal !== renewals) return;
    show(find("recent-all-label"), others.jobs.length > 0);
  } else show(find("recent-all-label"));
  render(jobs, following, false);
}

async function page(before, ofAll = all) {
  const from = before ? `&before=${encodeURIComponent(before)}` : "";
  const ours = ofAll ? "" : `&key_prefix=${OURS}`;
  return (await askJson("GET", `/v2/jobs?limit=${PAGE}&conversions=false${ours}${from}`)).result;
}

function render(jobs, following, more) {
  next = following;
  const items = jobs.map(item);
  if (!more) find("recent-list").replaceChildren();
  find("recent-list").append(...items);
  const some = find("recent-list").children.length > 0 || !find("recent-all-label").hidden;
  show(find("recent"), some);
  show(find("recent-link"), some);
  show(find("recent-none"), items.length === 0 && !more);
  show(find("recent-more"), next !== null);
}

// Which job of the list the player shows.
export function markShown(id) {
  shown = id;
  for (const link of find("recent-list").querySelectorAll("a")) {
    if (link.href.endsWith(linkTo(id)) && id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

export const linkTo = (id) => `/?job=${encodeURIComponent(id)}`;

function item(job) {
  const link = make("a", { href: linkTo(job.request_id) },
    make("span", { className: "thumbnail" }, ...picture(job)),
    make("strong", { textContent: job.name ?? "Clip" }),
    make("span", { className: `state ${stateOf(job)}`, textContent: describe(job) }));
  link.addEventListener("click", (event) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    opened(job.request_id);
  });
  if (job.request_id === shown) link.setAttribute("aria-current", "true");
  const line = make("li", {}, link, menuOf(job, () => rename(line, job)));
  return line;
}

function menuOf(job, onRename) {
  const name = job.name ?? "Clip";
  const summary = make("summary", { textContent: "⋯", title: "Rename or delete" });
  summary.setAttribute("aria-label", `More for ${name}`);
  const button = (textContent, act) => {
    const made = make("button", { type: "button", textContent });
    made.addEventListener("click", act);
    return made;
  };
  const menu = make("details", { className: "menu" }, summary, make("div", { className: "sheet" },
    button("Rename", onRename),
    button("Delete", () => remove(job.request_id))));
  setUpMenu(menu);
  return menu;
}

// The name becomes a field: Enter takes it, Escape does not.
function rename(line, job) {
  const field = make("input", { value: job.name ?? "", maxLength: 200 });
  field.setAttribute("aria-label", "New name");
  const form = make("form", {}, field, make("button", { textContent: "Save" }));
  const back = () => {
    const again = item(job);
    line.replaceWith(again);
    /** @type {any} */ (again.querySelector("summary")).focus();
  };
  form.addEventListener("keydown", (event) => event.key === "Escape" && back());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      job.name = (await askJson("POST", `/v2/jobs/${job.request_id}`, { name: field.value.trim() })).name;
      back();
    } catch (error) {
      complain(error);
    }
  });
  line.replaceChildren(form);
  field.select();
}

async function remove(id) {
  try {
    await askJson("DELETE", `/v2/jobs/${id}`);
    forget(id);
    deleted(id);
    await renewRecent();
  } catch (error) {
    complain(error);
  }
}

// This browser's own cut-out of the job; what was made elsewhere has the first letter of its name.
/** @returns {Node[]} */
function picture(job) {
  const kept = thumbnail(job.request_id);
  if (kept) return [make("img", { src: kept, alt: "", loading: "lazy" })];
  const letter = make("span", { textContent: (job.name ?? "?")[0].toUpperCase() });
  letter.setAttribute("aria-hidden", "true");
  return [letter];
}

function stateOf(job) {
  if (job.status === "IN_PROGRESS") return "working";
  return job.status === "COMPLETED" ? "done" : "failed";
}

const ENDS = { cancelled: "Cancelled", result_expired: "Expired" };

// What makes two jobs of one clip differ: quality, marks, time.
function describe(job) {
  if (job.status === "IN_PROGRESS") return job.stage === "queued" ? "Waiting" : "Working";
  const when = ago(new Date(job.ended_at ?? job.created_at));
  const marks = marksOf(job.request_id)?.length;
  if (job.status === "COMPLETED") return [qualityLabel(job.quality), marks && `${marks} mark${marks > 1 ? "s" : ""}`, when].filter(Boolean).join(" · ");
  return `${ENDS[job.error?.reason] ?? "Failed"} · ${when}`;
}

function ago(moment) {
  const minutes = (Date.now() - moment.getTime()) / 60000;
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${Math.floor(minutes)} min ago`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return moment.toLocaleDateString(undefined, { day: "numeric", month: "short" });
}
