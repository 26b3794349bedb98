// The list of recent jobs: the service's, with cut-outs of this browser's where it has some.
import { askJson } from "./api.js";
import { find, make, show } from "./dom.js";
import { marksOf, thumbnail } from "./memory.js";
import { qualityLabel } from "./choices.js";
import { token } from "./token.js";

const PAGE = 8;
let next = null;
/** @type {(id: string) => void} */
let opened = () => {};

// `onOpen(id)` is called for a click on a job.
export function setUpRecent(onOpen) {
  opened = onOpen;
  find("recent-more").addEventListener("click", async () => {
    const { jobs, next: following } = await page(next);
    render(jobs, following, true);
    /** @type {any} */ (find("recent-list").children[find("recent-list").children.length - jobs.length]?.querySelector("a"))?.focus();
  });
}

// Asks for the newest jobs; without a token there are none.
export async function renewRecent() {
  if (!token()) return render([], null, false);
  const { jobs, next: following } = await page(null).catch(() => ({ jobs: [], next: null }));
  render(jobs, following, false);
}

async function page(before) {
  const from = before ? `&before=${encodeURIComponent(before)}` : "";
  return (await askJson("GET", `/v2/jobs?limit=${PAGE}&conversions=false${from}`)).result;
}

function render(jobs, following, more) {
  next = following;
  const items = jobs.map(item);
  if (!more) find("recent-list").replaceChildren();
  find("recent-list").append(...items);
  const some = find("recent-list").children.length > 0;
  show(find("recent"), some);
  show(find("recent-link"), some);
  show(find("recent-more"), next !== null);
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
  return make("li", {}, link);
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
