// The playground: clip, choices, job, stage, result, in this order.
import { askJson, clear, explain, here, submission } from "./api.js";
import { canShow, preset, quality, setUpChoices } from "./choices.js";
import { atFault, clip, probeAgain, setUpClip } from "./clip.js";
import { find, show } from "./dom.js";
import { follow, setUpJob } from "./job.js";
import { convert, setUpReport, showReport } from "./report.js";
import { setUpSnippets, showFields } from "./snippets.js";
import { describe, setUpStage, showMask, showSource, showStrip } from "./stage.js";
import { refuse, setUpToken } from "./token.js";
import { awaitDelivery, receiverUrl } from "./webhooks.js";

let shown = null; // the blob on the stage
let wanted = preset();
let ownReceiver = "";
let done = null; // the last mask that was shown, as `showMask` was called

setUpChoices(onForm);
setUpClip(onClip);
setUpJob();
setUpReport();
setUpSnippets();
setUpStage();
find("webhook").addEventListener("input", onForm);
find("webhook-here").addEventListener("change", async () => {
  onForm();
  ownReceiver = await receiverUrl().catch(() => "");
  onForm();
});
find("job-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
onForm();
await setUpToken();
document.documentElement.dataset.ready = "yes";
performance.mark("ready");

function fields() {
  return submission({
    video: clip.video,
    output_container_and_codec: preset(),
    quality: quality(),
    webhook_url: find("webhook").disabled ? ownReceiver : find("webhook").value.trim(),
  });
}

function onForm() {
  find("webhook").disabled = find("webhook-here").checked;
  find("go").disabled = !clip.facts;
  showFields(fields());
  if (wanted === preset()) return;
  wanted = preset();
  probeAgain();
}

async function onClip() {
  onForm();
  if (clip.video === "") done = null;
  if (shown === clip.blob && clip.blob) return describe(clip.facts);
  shown = clip.blob;
  if (!done) for (const id of ["report", "hooks"]) show(find(id), false);
  await showSource(clip.blob, clip.facts);
  if (shown === clip.blob) describe(clip.facts); // they may have come while the clip was loaded
  if (done) await showMask(...done); // the clip of a URL came after its mask
}

async function submit() {
  const body = fields();
  const { facts } = clip;
  for (const [place, field] of [["form-error"], ["webhook-error", "webhook"], ["preset-error", "preset"], ["clip-error", "url"], ["clip-error", "file"]])
    clear(find(place), field && find(field));
  show(find("report"), false);
  show(find("hooks"), false);
  find("go").disabled = true;
  try {
    const calls = find("webhook-here").checked;
    if (calls) body.webhook_url = await receiverUrl();
    const { request_id: id } = await askJson("POST", "/v2/video/segment/foreground_mask", body);
    find("go").disabled = false;
    const status = await follow(id, facts.frames ?? Math.round(facts.duration_s * facts.fps));
    if (calls && status) awaitDelivery(id).catch(() => {});
    if (status?.status === "COMPLETED") await finish(status, body.output_container_and_codec, facts);
  } catch (error) {
    if (error.reason?.startsWith("token_")) refuse(error);
    else explain(find(placeOf(error)), error, fieldOf(error));
  }
  find("go").disabled = !clip.facts;
}

const PLACES = { video: ["clip-error"], webhook_url: ["webhook-error", "webhook"], output_container_and_codec: ["preset-error", "preset"] };
const placeOf = (error) => PLACES[error.param]?.[0] ?? "form-error";

function fieldOf(error) {
  if (error.param === "webhook_url") find("webhook-fold").open = true;
  const id = error.param === "video" ? atFault() : PLACES[error.param]?.[1];
  return id ? find(id) : null;
}

// A link, at this address, to the mask in a format that this browser plays.
async function playable(id, made) {
  const shownBy = canShow(made) ? id : await convert(canShow("mp4_h264") ? "mp4_h264" : "webm_vp9");
  return here((await askJson("GET", `/v2/jobs/${shownBy}`)).result.video_url);
}

async function finish(status, made, facts) {
  const { report } = status.result;
  showReport(status, made);
  askJson("GET", `/v2/status/${status.request_id}/strip`).then(({ result }) => showStrip(result.frames)).catch(() => {});
  const url = await playable(status.request_id, made).catch(() => "");
  done = [url, facts, report];
  await showMask(...done);
}
