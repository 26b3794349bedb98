// The playground: samples, clip, job, player, result, in this order.
import { askJson, clear, complain, explain, here, order, submission } from "./api.js";
import { setUpCamera } from "./camera.js";
import { canShow, choosePreset, chooseQuality, preset, PRESETS, quality, qualityLabel, setUpChoices } from "./choices.js";
import { atFault, bring, clip, forgetClip, probeAgain, restore, setUpClip, takeFile } from "./clip.js";
import { offerOthers, setUpCompare } from "./compare.js";
import { find, prefersStill, seconds, show } from "./dom.js";
import { countMarksFromClip, countMarksFromPart, hintFields, keepMarksWithin, marksBecame, offerMarks, setUpHints, showMarksOf } from "./hints.js";
import { follow, leave, setUpJob } from "./job.js";
import { matteFields, setUpMatte, resetMatte } from "./matte.js";
import { clipUrl, keepClipUrl, keepThumbnail, marksOf } from "./memory.js";
import { chooseModels, modelFields, modelLabel, setUpModels } from "./models.js";
import { linkTo, markShown, renewRecent, setUpRecent } from "./recent.js";
import { convert, renderSeen, setUpResult, showResult } from "./result.js";
import { hideSamples, sampleShown, setUpSamples, showSamples } from "./samples.js";
import { cutOutPicture, leaveStill, setUpStill } from "./still.js";
import { setUpSnippets, showFields } from "./snippets.js";
import { cutTo, describe, dropPicture, frameFrom, seen, setMatte, setUpStage, maskShown, showMask, showSource, showStrip, takeThumbnail } from "./stage.js";
import { needToken, refuse, setUpToken } from "./token.js";
import { beginsAt, isWhole, offerTrim, part, partFields, partLength_s, setPart, setUpTrim } from "./trim.js";

const OPENED_MS = 15000; // a clip that takes longer comes after its mask
const SETTLED_MS = 2500; // a first picture that takes longer is not waited for

let shown = null; // what the player plays: a blob or a URL
let opened = Promise.resolve(); // once the player has the clip
let wanted = preset();
let done = null; // the last mask that was shown, as `showMask` was called
let ordered = false; // the mask is to be made as soon as the clip is there
let current = ""; // the job that is shown
const made = { preset: "", quality: "", network: "", tracker: "" }; // as that job was asked to

setUpChoices(onForm);
setUpModels(onForm);
setUpClip(onClip, onPicture);
setUpStill(startAnew);
setUpJob(() => submit(), changeSettings, startAnew);
setUpMatte((matte) => {
  setMatte(matte);
  onSeen();
});
setUpHints(correct, onForm);
setUpResult(tryAgain, startAnew);
setUpSnippets();
setUpStage(onSeen);
setUpTrim(onForm);
setUpCompare(({ id, form }) => playable(id, form));
setUpRecent((id) => open(id, true), (id) => id === current && find("job-form").hidden && startAnew());
setUpCamera();
setUpSamples((file) => {
  ordered = true;
  takeFile(file);
});
find("webhook").addEventListener("input", onForm);
find("job-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (clip.facts) submit();
  else ordered = true;
  onForm();
});
document.addEventListener("token", () => renewRecent());
addEventListener("popstate", () => {
  const id = jobInAddress();
  if (id) open(id, false);
  else startAnew(false);
});
onForm();
const began = setUpToken();
const first = jobInAddress() ? open(jobInAddress(), false) : showSamples();
Promise.race([first, new Promise((resolve) => setTimeout(resolve, SETTLED_MS))]).finally(() => (document.documentElement.dataset.settled = "yes"));
await began;
document.documentElement.dataset.ready = "yes";
performance.mark("ready");

function jobInAddress() {
  return new URLSearchParams(location.search).get("job");
}

function fields() {
  return submission({
    video: clip.video,
    output_container_and_codec: preset(),
    quality: quality(),
    ...modelFields(),
    webhook_url: find("webhook").value.trim(),
    hints: hintFields(),
    ...partFields(),
  });
}

// The first frame of the part, and the one after its last, as the player counts them.
/** @returns {[number, number]} */
function framesOfPart() {
  if (part.cut) return [0, Infinity];
  return [frameFrom(part.start_s), part.end_s === null ? Infinity : frameFrom(part.end_s)];
}

// What is known of the part, by what is known of the clip.
function partFacts(facts) {
  if (isWhole() || !facts?.fps) return facts; // of a job that was opened again, they are the part's own
  const length_s = partLength_s();
  return { ...facts, duration_s: length_s, frames: Math.max(1, Math.round(length_s * facts.fps)) || undefined };
}

// The player plays the part alone from now on, and marks count from its start.
async function cutClip() {
  if (part.cut || isWhole()) return;
  countMarksFromPart();
  part.cut = true;
  offerTrim(false, clip.facts?.duration_s ?? null);
  await cutTo(part);
  describe(partFacts(clip.facts));
}

function onSeen() {
  renderSeen();
  onForm();
}

function onForm() {
  show(find("options"), clip.busy || clip.video !== "");
  find("go").disabled = !clip.facts && !clip.busy;
  find("go").textContent = ordered && clip.busy ? "Starts when the clip is there" : "Make the mask";
  sayMarksOutside(keepMarksWithin(framesOfPart()));
  showFields(fields(), seen(), matteFields());
  if (wanted === preset()) return;
  wanted = preset();
  probeAgain();
}

function sayMarksOutside(count) {
  find("trim-marks").textContent = count === 1 ? "1 mark is outside of this part and does not count." : `${count} marks are outside of this part and do not count.`;
  show(find("trim-marks"), count > 0);
}

// Which card the panel shows; the others go.
function panel(name) {
  leaveStill();
  for (const id of ["job-form", "job", "result", "still"]) show(find(id), id === name);
  document.documentElement.dataset.panel = name;
  find(name === "result" ? "models-of-result" : "models-of-form").append(find("models"));
  markShown(name === "job-form" ? "" : current);
  renderMarks();
}

function renderMarks() {
  const marksFrames = clip.facts && !clip.facts.vfr; // at varying times a frame's number is known by its mask only
  offerTrim(Boolean(clip.facts && !find("job-form").hidden && !part.cut), clip.facts?.duration_s ?? null, clip.facts?.most_s ?? null);
  offerMarks(!sampleShown() && Boolean(clip.video) && Boolean(done ? done[0] : marksFrames), Boolean(done && !find("result").hidden));
}

async function onClip() {
  if (!clip.busy && !clip.facts) ordered = false;
  onForm();
  if (clip.refused) {
    shown = null;
    return showSamples();
  }
  if (clip.name) hideSamples();
  if (clip.video === "") {
    done = null;
    showMarksOf("");
    setPart();
  }
  if (ordered && clip.facts) {
    ordered = false;
    submit();
  }
  renderMarks();
  if (shown === clip.blob && clip.blob) return describe(part.cut ? partFacts(clip.facts) : clip.facts);
  if (sampleShown()) return;
  shown = clip.blob;
  if (clip.busy) panel("job-form"); // a clip that was dropped while a result was shown
  opened = openClip(clip.blob);
  await opened;
  if (shown !== clip.blob) return;
  describe(part.cut ? partFacts(clip.facts) : clip.facts); // they may have come while the clip was loaded
  if (done) await showMask(...done); // the clip of a URL came after its mask
  renderMarks();
}

async function openClip(blob) {
  await showSource(blob, clip.facts, clip.name);
  if (shown === blob && part.cut) await cutTo(part);
}

// Beside a result, a picture is a background; else it is cut out.
function onPicture(file) {
  if (!find("result").hidden) return dropPicture(file);
  leaveAll(true);
  hideSamples();
  showSource(null, null);
  panel("still");
  find("still-title").focus({ preventScroll: true });
  cutOutPicture(file);
}

// Back to the form, without a clip.
function startAnew(remember = true) {
  leaveAll(remember);
  showSamples();
  find("job-form-title").focus();
}

function leaveAll(remember) {
  current = "";
  leave();
  done = null;
  ordered = false;
  panel("job-form");
  if (remember && jobInAddress()) history.pushState(null, "", "/");
  shown = null;
  forgetClip();
}

// Back to the form of a job that has failed: clip, part, marks and choices are as they were.
async function changeSettings() {
  current = "";
  leave();
  done = null;
  if (made.preset in PRESETS) choosePreset(made.preset);
  panel("job-form");
  history.pushState(null, "", "/");
  find("job-form-title").focus();
  const wasCut = part.cut;
  const { video } = clip;
  setPart(part);
  if (!clip.facts?.codec) await probeAgain();
  if (current || clip.video !== video) return; // another job or clip was opened meanwhile
  if (wasCut) countMarksFromClip(framesOfPart()[0]);
  opened = openClip(shown);
  await opened;
  renderMarks();
  onForm();
}

function tryAgain(value) {
  chooseQuality(value);
  submit();
}

async function submit() {
  const body = fields();
  const { facts, name } = clip;
  for (const [place, field] of [["webhook-error", "webhook"], ["preset-error", "preset"], ["clip-error", "url"], ["clip-error", "file"], ["models-error", "network"], ["models-error", "tracker"]])
    clear(find(place), field && find(field));
  find("go").disabled = true;
  try {
    const id = await order("/v2/video/segment/foreground_mask", body);
    if (!here(clip.video).startsWith("/v2/files/")) keepClipUrl(id, clip.video);
    const known = partFacts(facts);
    await cutClip();
    remember(id);
    await watch(id, { name, preset: body.output_container_and_codec, quality: body.quality, models: modelFields(), facts: known });
  } catch (error) {
    panel("job-form");
    if (error.reason?.startsWith("token_")) refuse(error);
    else if (PLACES[error.param]) explain(find(PLACES[error.param][0]), error, fieldOf(error));
    else complain(error);
  }
  onForm();
}

// A job was started: its picture and marks for later, and its address.
function remember(id) {
  const picture = takeThumbnail();
  if (picture) keepThumbnail(id, picture);
  marksBecame(id);
  history.pushState(null, "", linkTo(id));
}

// Marks act on the whole clip: a job that goes on from the one that is shown, or one that begins anew.
async function correct(hints, anew) {
  const { network, tracker } = modelFields();
  if (anew || network !== made.network || tracker !== made.tracker) return submit();
  const video = clipUrl(current);
  const id = await order(`/v2/status/${current}/refine`, submission({ hints, video }));
  if (video) keepClipUrl(id, video);
  remember(id);
  await watch(id, { name: clip.name, ...made, models: modelFields(), facts: clip.facts });
}

// Follows a job to its end and shows what it made.
async function watch(id, { name, preset: form, quality: asked, models, facts, when = new Date().toISOString() }) {
  current = id;
  Object.assign(made, { preset: form, quality: asked, ...models });
  panel("job");
  find("job-title").focus();
  renewRecent();
  const began_ms = performance.now();
  const guess = facts?.frames ?? (facts?.vfr ? undefined : Math.round(facts?.duration_s * facts?.fps));
  const status = await follow(id, name, Boolean(clip.video), guess);
  if (!status || current !== id) return;
  if (status.status === "COMPLETED") await finish(status, { name, preset: form, quality: asked, facts, when, took_s: (performance.now() - began_ms) / 1000 });
  renewRecent();
}

// A job of the list, or of the address.
async function open(id, remember) {
  if (remember) history.pushState(null, "", linkTo(id));
  hideSamples();
  leave();
  current = id;
  done = shown = null;
  panel("job");
  find("job-title").textContent = "Opening";
  show(find("job-bar"), false);
  find("job-said").textContent = "";
  await needToken();
  let job;
  try {
    job = await askJson("GET", `/v2/jobs/${encodeURIComponent(id)}`);
  } catch (error) {
    if (error.reason?.startsWith("token_")) return refuse(error);
    if (error.code === 404) showSamples();
    return follow(id, "", false); // says what is wrong, or waits for the service
  }
  if (current !== id) return;
  const url = clipUrl(id);
  const facts = job.frames_total ? { frames: job.frames_total } : {};
  restore(job.source_url ? here(job.source_url) : "", job.name ?? "", facts);
  setPart(job, Boolean(job.start_s || job.end_s)); // the clip is still being opened
  if (job.source_url) clip.video = job.source_url;
  else if (url) {
    clip.video = url;
    bring(url).catch(() => {});
  }
  current = id;
  showMarksOf(id);
  if (job.quality) chooseQuality(job.quality);
  chooseModels(job);
  await watch(id, { name: job.name ?? "", preset: job.output_container_and_codec, quality: job.quality, models: { network: job.network ?? "", tracker: job.tracker ?? "" }, facts, when: job.created_at });
}

const PLACES = { video: ["clip-error"], start_s: ["trim-error", "trim-start"], end_s: ["trim-error", "trim-end"], network: ["models-error", "network"], tracker: ["models-error", "tracker"], hints: ["models-error", "tracker"], webhook_url: ["webhook-error", "webhook"], output_container_and_codec: ["preset-error", "preset"] };

function fieldOf(error) {
  if (error.param === "webhook_url" || error.param === "output_container_and_codec") find("options-fold").open = true;
  const id = error.param === "video" ? atFault() : PLACES[error.param]?.[1];
  return id ? find(id) : null;
}

// A link, at this address, to the mask in a format that this browser plays.
async function playable(id, form) {
  const shownBy = canShow(form) ? id : await convert(canShow("mp4_h264") ? "mp4_h264" : "webm_vp9");
  return here((await askJson("GET", `/v2/jobs/${shownBy}`)).result.video_url);
}

async function finish(status, { name, preset: form, quality: asked, facts, when, took_s }) {
  const { report, kind } = status.result;
  const id = status.request_id;
  resetMatte();
  showResult(status, {
    name,
    preset: form,
    quality: asked,
    video: clipUrl(id),
    from: beginsAt(),
    can: Boolean(clip.video),
    said: took_s > 1.5 ? `Done in ${seconds(took_s)}` : "Done",
  });
  panel("result");
  find("result-title").focus({ preventScroll: true });
  if (kind && kind !== "mask") return showOther(id, name);
  askJson("GET", `/v2/status/${id}/strip`).then(({ result }) => current === id && showStrip(result.frames)).catch(() => {});
  const url = await playable(id, form).catch(() => "");
  await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, OPENED_MS))]);
  if (current !== id) return;
  done = [url, facts, report, { playing: !prefersStill() }];
  await showMask(...done);
  offerOthers({ id, form, name, of: JSON.stringify([report.frames_out, partFields()]), label: labelOf(id, asked, when) });
  renderMarks();
  if (innerWidth < 960) find("stage").scrollIntoView({ block: "start" });
  await maskShown();
  const picture = current === id && takeThumbnail();
  if (picture) keepThumbnail(id, picture);
}

// What tells a result from others of its clip.
function labelOf(id, asked, when) {
  const marks = marksOf(id)?.length ?? 0;
  const time = new Date(when).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return [qualityLabel(asked), modelLabel(made), marks && `${marks} mark${marks > 1 ? "s" : ""}`, time].filter(Boolean).join(" · ");
}

// A cut-out or a composite that another program has ordered: the player shows it as a clip.
async function showOther(id, name) {
  const { result } = await askJson("GET", `/v2/jobs/${id}`);
  if (current === id) await showSource(here(result.video_url), null, name);
}
