// One job, from its submission to its end: the card that says where it is.
import { askJson, clear, explain, sayOffline } from "./api.js";
import { find, seconds, show } from "./dom.js";

const POLL_MS = 400;
const NEWEST_MS = 2000; // as often as the service has another
const STAGES = { queued: "Waiting for its turn", ingest: "Reading the clip", segment: "Masking", join: "Joining the parts" };
const ENDS = { cancelled: "Cancelled", result_expired: "Expired" };
let current = "";
let expected = 0; // frames, where the clip's header has no count

// `onAgain`, `onBack` and `onNew` are the buttons below a job that has failed.
export function setUpJob(onAgain, onBack, onNew) {
  find("job-cancel").addEventListener("click", async () => {
    find("job-cancel").disabled = true;
    await askJson("DELETE", `/v2/status/${current}`).catch(() => {});
  });
  find("job-again").addEventListener("click", onAgain);
  find("job-back").addEventListener("click", onBack);
  find("job-new").addEventListener("click", onNew);
}

// Stops following: another job or clip is shown.
export function leave() {
  current = "";
  show(find("job"), false);
}

// Follows the job until it ends or another one is followed; answers its last status, or null. `again` says whether
// its clip can be masked anew, `frames` about how many frames it has, where the clip's header tells.
export async function follow(requestId, name, again, frames = 0) {
  current = requestId;
  expected = frames || 0;
  let seen = performance.now();
  show(find("job-look"), false);
  clear(find("job-error"));
  find("job-name").textContent = name;
  for (const id of ["job-again", "job-back", "job-new"]) show(find(id), false);
  for (const id of ["job", "job-bar", "job-cancel", "job-hint"]) show(find(id));
  find("job-said").textContent = find("job-hint").textContent = "";
  find("job-cancel").disabled = false;
  say("Sent");
  let misses = 0;
  while (current === requestId) {
    let status;
    try {
      status = await askJson("GET", `/v2/status/${requestId}`);
      misses = 0;
    } catch (error) {
      misses += 1;
      if (error.code !== 0 && error.code < 500 && error.code !== 429) {
        if (current !== requestId) return null;
        end("Not found", again);
        explain(find("job-error"), error);
        return null;
      }
      sayOffline(true);
      await pause(Math.min(5000, POLL_MS * 2 ** misses));
      continue;
    }
    if (current !== requestId) return null;
    render(status, again);
    if (status.status !== "IN_PROGRESS") return status;
    if (status.stage === "segment" && performance.now() - seen > NEWEST_MS) {
      seen = performance.now();
      showNewest(requestId).catch(() => {});
    }
    await pause(POLL_MS);
  }
  return null;
}

// What the network has just said of one frame: the mask is decided from many, and may differ.
async function showNewest(requestId) {
  const { result } = await askJson("GET", `/v2/status/${requestId}/newest_mask`);
  if (current !== requestId || !result.mask) return;
  find("job-newest").src = `data:image/png;base64,${result.mask}`;
  show(find("job-look"));
}

const pause = (time_ms) => new Promise((resolve) => setTimeout(resolve, time_ms));

function say(text) {
  if (find("job-title").textContent !== text) find("job-title").textContent = text; // spoken once
}

function end(title, again) {
  say(title);
  show(find("job-cancel"), false);
  show(find("job-bar"), false);
  show(find("job-look"), false);
  for (const id of ["job-again", "job-back"]) show(find(id), again);
  show(find("job-new"));
}

// An estimate, as coarse as it is.
function roughly(left_s) {
  const step = left_s < 15 ? 1 : left_s < 60 ? 5 : left_s < 600 ? 10 : 60;
  const rounded = Math.max(1, Math.round(left_s / step)) * step;
  return rounded < 60 ? `${rounded} s` : seconds(rounded);
}

function render(status, again) {
  const running = status.status === "IN_PROGRESS";
  const waiting = status.stage === "queued" && running;
  const { frames_done: done = 0, frames_total: counted } = status;
  const total = counted ?? expected;
  if (waiting || (running && !total)) find("job-bar").removeAttribute("value");
  else find("job-bar").value = counted ? status.progress : Math.min(97, (100 * done) / total) || 0;
  if (status.status === "COMPLETED") end("Done", false);
  else if (!running) {
    end(ENDS[status.error?.reason] ?? "Failed", again);
    if (status.error) explain(find("job-error"), { ...status.error, message: status.error.details });
  } else say(STAGES[status.stage] ?? status.stage ?? "Working");
  const facts = [
    waiting && status.queue_position ? `number ${status.queue_position} in the queue` : "",
    !waiting && done ? `${done}${total ? ` of ${counted ? "" : "about "}${total}` : ""} frames` : "",
    running && status.eta_s !== undefined ? `about ${roughly(status.eta_s)} left` : "",
  ];
  find("job-said").textContent = running ? facts.filter(Boolean).join(" · ") : "";
  find("job-hint").textContent = running ? "You may close this page: the mask will be under Recent." : `Request ${status.request_id}`;
}
