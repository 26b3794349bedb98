// The result: what the report says, and the mask in any format.
import { askJson, clear, explain, here } from "./api.js";
import { bytes, find, listFacts, make, percent, seconds, show } from "./dom.js";
import { PRESETS, presetOptions } from "./choices.js";

const job = { id: "", made: {} };

export function setUpReport() {
  find("other").append(...presetOptions());
  find("other-make").addEventListener("click", () => makeOther(find("other").value));
  find("other").addEventListener("change", renderOther);
}

export function showReport(status, preset) {
  const { report = {}, video_url: link } = status.result;
  Object.assign(job, { id: status.request_id, made: {} });
  if (link) job.made[preset] = { id: job.id, url: here(link) };
  show(find("report"));
  show(find("download"), Boolean(link));
  find("download").href = job.made[preset]?.url ?? "";
  find("download").textContent = `Download the mask${report.bytes ? ` (${bytes(report.bytes)})` : ""}`;
  find("other").value = preset === "mov_proresks" ? "mp4_h264" : "mov_proresks";
  renderOther();
  listFacts(find("report-facts"), facts(report));
  find("report-warnings").replaceChildren(...(report.warnings ?? []).map((text) => make("li", { textContent: text })));
}

function facts(report) {
  const drift = report.duration_drift_ms;
  return [
    ["Frames", report.frames_in === undefined ? "" : report.frames_in === report.frames_out ? `${report.frames_in} in, ${report.frames_out} out` : `${report.frames_in} in, but ${report.frames_out} out`],
    ["Length", report.duration_s === undefined ? "" : seconds(report.duration_s)],
    ["Drift", drift === undefined ? "" : `${drift.toFixed(1)} ms`],
    ["Sound", report.audio === undefined ? "" : report.audio.length ? report.audio.map((each) => each.action ?? each.codec ?? "kept").join(", ") : "none in the clip"],
    ["Foreground", report.coverage === undefined ? "" : percent(report.coverage)],
    ["Change per frame", report.flicker === undefined ? "" : percent(report.flicker)],
    ["Made with", report.runtime],
    ["SHA-256", report.sha256 && make("code", { textContent: `${report.sha256.slice(0, 16)}…`, title: report.sha256 })],
  ];
}

function renderOther() {
  const wanted = find("other").value;
  clear(find("other-error"));
  find("other-make").disabled = false;
  if (job.made[wanted]) sayReady(wanted);
  else find("other-said").textContent = PRESETS[wanted].means;
}

// The mask in another format; answers the job that made it. The service encodes it from the mask that it keeps.
export async function convert(preset) {
  if (job.made[preset]) return job.made[preset].id;
  const { request_id: id } = await askJson("POST", `/v2/status/${job.id}/convert`, { output_container_and_codec: preset });
  for (;;) {
    const status = await askJson("GET", `/v2/status/${id}`);
    if (status.status === "COMPLETED") {
      job.made[preset] = { id, url: here(status.result.video_url) };
      return id;
    }
    if (status.status !== "IN_PROGRESS") throw Object.assign(new Error(status.error.details), status.error);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

async function makeOther(preset) {
  clear(find("other-error"));
  find("other-make").disabled = true;
  find("other-said").textContent = `Encoding ${PRESETS[preset].label} …`;
  try {
    await convert(preset);
    if (find("other").value === preset) sayReady(preset);
  } catch (error) {
    find("other-said").textContent = "";
    explain(find("other-error"), error, find("other"));
  }
  find("other-make").disabled = false;
}

function sayReady(preset) {
  find("other-said").replaceChildren(make("a", { href: job.made[preset].url, textContent: `Download ${PRESETS[preset].label}` }));
}
