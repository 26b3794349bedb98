// One job, from its submission to its end: the card that says where it is.
import { askJson, clear, explain } from "./api.js";
import { find, listFacts, seconds, show } from "./dom.js";

const POLL_MS = 400;
const STAGES = { queued: "Waiting", ingest: "Reading the clip", segment: "Masking", join: "Joining the parts" };
let current = "";

export function setUpJob() {
  find("job-cancel").addEventListener("click", async () => {
    find("job-cancel").disabled = true;
    await askJson("DELETE", `/v2/status/${current}`).catch(() => {});
  });
}

// Follows the job until it ends or another one is followed; answers its last status, or null. `expected` is about
// how many frames there are, for a clip whose header does not say.
export async function follow(requestId, expected) {
  current = requestId;
  const began = performance.now();
  const pace = { from: null, frames: 0 };
  clear(find("job-error"));
  show(find("job"));
  show(find("job-bar"));
  show(find("job-cancel"));
  find("job-cancel").disabled = false;
  if (find("job").offsetTop > innerHeight) find("stage").scrollIntoView({ block: "start" }); // a narrow screen
  let misses = 0;
  while (current === requestId) {
    let status;
    try {
      status = await askJson("GET", `/v2/status/${requestId}`);
      misses = 0;
    } catch (error) {
      misses += 1;
      if (error.code !== 0 && error.code < 500 && error.code !== 429) {
        end("Lost");
        explain(find("job-error"), error);
        return null;
      }
      say("The service does not answer; trying again");
      await pause(Math.min(5000, POLL_MS * 2 ** misses));
      continue;
    }
    if (current !== requestId) return null;
    render(status, (performance.now() - began) / 1000, pace, expected);
    if (status.status !== "IN_PROGRESS") return status;
    await pause(POLL_MS);
  }
  return null;
}

const pause = (time_ms) => new Promise((resolve) => setTimeout(resolve, time_ms));

function say(text) {
  if (find("job-title").textContent !== text) find("job-title").textContent = text; // spoken once
}

function end(title) {
  say(title);
  show(find("job-cancel"), false);
  show(find("job-bar"), false);
}

function render(status, elapsed_s, pace, expected) {
  const guessed = !status.frames_total && status.status === "IN_PROGRESS";
  const total = status.frames_total ?? expected;
  const bar = find("job-bar");
  if (status.stage === "queued" && status.status === "IN_PROGRESS") bar.removeAttribute("value");
  else bar.value = guessed && total ? Math.min(97, (97 * status.frames_done) / total) : (status.progress ?? 0);
  const now = performance.now();
  if (status.frames_done && pace.from === null) Object.assign(pace, { from: now, frames: status.frames_done });
  const fps = pace.from !== null && now > pace.from + 500 ? (status.frames_done - pace.frames) / ((now - pace.from) / 1000) : 0;
  const left_s = status.eta_s ?? (fps > 0 && total ? Math.max(0, total - status.frames_done) / fps : undefined);
  if (status.status === "COMPLETED") end(`Done in ${seconds(elapsed_s)}`);
  else if (status.status === "ERROR") {
    end(status.error?.reason === "cancelled" ? "Cancelled" : "Failed");
    if (status.error) explain(find("job-error"), { ...status.error, message: status.error.details });
  } else say(STAGES[status.stage] ?? status.stage ?? "Working");
  listFacts(find("job-facts"), [
    ["Place in the queue", status.queue_position],
    ["Frames", total ? `${status.frames_done} of ${guessed ? "about " : ""}${total}` : status.frames_done || ""],
    ["Speed", fps > 0 ? `${fps.toFixed(1)} fps` : ""],
    ["To go", left_s === undefined || status.status !== "IN_PROGRESS" ? "" : seconds(left_s)],
    ["So far", status.status === "IN_PROGRESS" ? seconds(elapsed_s) : ""],
    ["Request", status.request_id],
  ]);
}
