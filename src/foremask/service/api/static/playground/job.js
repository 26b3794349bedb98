// One job, from its submission to its end: the card that says where it is.
import { askJson, clear, explain, sayOffline } from "./api.js";
import { find, listFacts, seconds, show } from "./dom.js";

const POLL_MS = 400;
const NEWEST_MS = 2000; // as often as the service has another
const STAGES = { queued: "Waiting for its turn", ingest: "Reading the clip", segment: "Masking", join: "Joining the parts" };
const ENDS = { cancelled: "Cancelled", result_expired: "Expired" };
let current = "";

// `onAgain` and `onNew` are the buttons below a job that has failed.
export function setUpJob(onAgain, onNew) {
  find("job-cancel").addEventListener("click", async () => {
    find("job-cancel").disabled = true;
    await askJson("DELETE", `/v2/status/${current}`).catch(() => {});
  });
  find("job-again").addEventListener("click", onAgain);
  find("job-new").addEventListener("click", onNew);
}

// Stops following: another job or clip is shown.
export function leave() {
  current = "";
  show(find("job"), false);
}

// Follows the job until it ends or another one is followed; answers its last status, or null. `expected` is about
// how many frames there are, for a clip whose header does not say; `again` whether its clip can be masked anew.
export async function follow(requestId, name, expected, again) {
  current = requestId;
  const began = performance.now();
  const pace = { from: null, frames: 0 };
  let seen = began;
  show(find("job-newest"), false);
  clear(find("job-error"));
  find("job-name").textContent = name;
  for (const id of ["job-again", "job-new", "job-hint"]) show(find(id), false);
  for (const id of ["job", "job-bar", "job-cancel"]) show(find(id));
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
    render(status, (performance.now() - began) / 1000, pace, expected, again);
    if (status.status !== "IN_PROGRESS") return status;
    if (status.stage === "segment" && performance.now() - seen > NEWEST_MS) {
      seen = performance.now();
      showNewest(requestId).catch(() => {});
    }
    await pause(POLL_MS);
  }
  return null;
}

// The newest mask, while the clip is masked.
async function showNewest(requestId) {
  const { result } = await askJson("GET", `/v2/status/${requestId}/newest_mask`);
  if (current !== requestId || !result.mask) return;
  find("job-newest").src = `data:image/png;base64,${result.mask}`;
  show(find("job-newest"));
}

const pause = (time_ms) => new Promise((resolve) => setTimeout(resolve, time_ms));

function say(text) {
  if (find("job-title").textContent !== text) find("job-title").textContent = text; // spoken once
}

function end(title, again) {
  say(title);
  show(find("job-cancel"), false);
  show(find("job-bar"), false);
  show(find("job-newest"), false);
  show(find("job-again"), again);
  show(find("job-new"));
}

function render(status, elapsed_s, pace, expected, again) {
  const running = status.status === "IN_PROGRESS";
  const guessed = !status.frames_total && running;
  const total = status.frames_total ?? expected;
  const bar = find("job-bar");
  const waiting = status.stage === "queued" && running;
  if (waiting) bar.removeAttribute("value");
  else bar.value = guessed && total ? Math.min(97, (97 * status.frames_done) / total) : (status.progress ?? 0);
  const now = performance.now();
  if (status.frames_done && pace.from === null) Object.assign(pace, { from: now, frames: status.frames_done });
  const fps = pace.from !== null && now > pace.from + 500 ? (status.frames_done - pace.frames) / ((now - pace.from) / 1000) : 0;
  const left_s = status.eta_s ?? (fps > 0 && total ? Math.max(0, total - status.frames_done) / fps : undefined);
  if (status.status === "COMPLETED") end("Done", false);
  else if (status.status === "ERROR") {
    end(ENDS[status.error?.reason] ?? "Failed", again);
    if (status.error) explain(find("job-error"), { ...status.error, message: status.error.details });
  } else say(STAGES[status.stage] ?? status.stage ?? "Working");
  find("job-hint").textContent = "You may close this page: the mask will be in the list of recent jobs.";
  show(find("job-hint"), running);
  listFacts(find("job-facts"), [
    ["Place in the queue", status.queue_position],
    ["Frames", !waiting && total ? `${status.frames_done ?? 0} of ${guessed ? "about " : ""}${total}` : ""],
    ["Speed", running && fps > 0 ? `${fps.toFixed(1)} frames/s` : ""],
    ["Time left", left_s === undefined || !running ? "" : `about ${seconds(left_s)}`],
    ["So far", running ? seconds(elapsed_s) : ""],
    ["Request", running ? "" : status.request_id],
  ]);
}
