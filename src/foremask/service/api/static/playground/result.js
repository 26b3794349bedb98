// The result: downloads of the mask and of whatever the player shows, made by the service from the stored mask.
import { askJson, clear, explain, here, upload } from "./api.js";
import { PRESETS, QUALITIES, USES, presetOptions } from "./choices.js";
import { bytes, find, listFacts, make, percent, seconds, show } from "./dom.js";
import { matteFields } from "./matte.js";
import { linkTo } from "./recent.js";
import { seen } from "./stage.js";

const POLL_MS = 300;
const job = { id: "", kind: "mask", base: "clip", preset: "mp4_h264", video: "", made: new Map() };
const pictures = new WeakMap(); // the file_url of each picture that was uploaded
const SEEN = { checker: "on nothing, with alpha", colour: "on a colour", picture: "on the picture", blur: "on the clip, blurred", original: "on the clip, darker" };

// `onAgain(quality)` masks the same clip anew; `onNew` asks for another clip.
export function setUpResult(onAgain, onNew) {
  find("result-new").addEventListener("click", onNew);
  find("other").append(...presetOptions());
  find("other").addEventListener("change", renderDownload);
  find("download").addEventListener("click", (event) => {
    if (find("download").getAttribute("href")) return;
    event.preventDefault();
    makeMask(find("other").value);
  });
  find("seen-make").addEventListener("click", makeSeen);
  for (const { label, form, means } of USES) {
    const button = make("button", { type: "button", textContent: label, title: `The cut-out as ${means}` });
    button.addEventListener("click", () =>
      offer(button, "use", { kind: "cutout", output_container_and_codec: form, ...matteFields() }, `The cut-out as ${means}`));
    find("uses").append(button);
  }
  for (const { value, label, means } of QUALITIES) {
    const button = make("button", { type: "button", id: `again-${value}`, textContent: label, title: means });
    button.addEventListener("click", () => onAgain(value));
    find("again").append(button);
  }
}

// `can` says whether the clip can be sent again; `video` is its URL where the service has no copy.
export function showResult(status, { name, preset, quality, video, can, said }) {
  const { report = {}, video_url: link, kind = "mask" } = status.result;
  const base = (name || "clip").replace(/\.[^.]*$/, "");
  Object.assign(job, { id: status.request_id, base, preset, video, made: new Map() });
  if (link) job.made.set(keyOf({ output_container_and_codec: preset }), { id: job.id, url: here(link), bytes: report.bytes });
  find("result-title").textContent = said;
  find("result-name").textContent = [name, report.frames_out && `${report.frames_out} frames`, report.duration_s && seconds(report.duration_s)].filter(Boolean).join(" · ");
  find("other").value = preset;
  for (const id of ["seen", "use"]) sayOf(id, "");
  // What another program has made is only shown and downloaded: there is no mask to work on.
  for (const id of ["other", "seen-group", "uses-group", "matte", "again-group", "calls-group"]) show(find(id), kind === "mask");
  job.kind = kind;
  for (const { value } of QUALITIES) {
    const button = find(`again-${value}`);
    button.disabled = !can;
    button.setAttribute("aria-pressed", String(value === quality));
  }
  listFacts(find("report-facts"), facts(report, status.request_id));
  find("report-warnings").replaceChildren(...(report.warnings ?? []).map((text) => make("li", { textContent: text })));
  find("permalink").href = linkTo(job.id);
  show(find("result"));
  renderDownload();
  renderSeen();
}

function facts(report, id) {
  const drift = report.duration_drift_ms;
  return [
    ["Frames", report.frames_in === undefined ? "" : report.frames_in === report.frames_out ? `${report.frames_in} in, ${report.frames_out} out` : `${report.frames_in} in, but ${report.frames_out} out`],
    ["Drift", drift === undefined ? "" : `${drift.toFixed(1)} ms`],
    ["Sound", report.audio === undefined ? "" : report.audio.length ? report.audio.map((each) => each.action ?? each.codec ?? "kept").join(", ") : "none in the clip"],
    ["Foreground", report.coverage === undefined ? "" : percent(report.coverage)],
    ["Change per frame", report.flicker === undefined ? "" : percent(report.flicker)],
    ["Made with", report.runtime],
    ["SHA-256", report.sha256 && make("code", { textContent: `${report.sha256.slice(0, 16)}…`, title: report.sha256 })],
    ["Request", id],
  ];
}

const keyOf = (body) => JSON.stringify(Object.entries(body).sort());

function renderDownload() {
  const wanted = job.kind === "mask" ? find("other").value : job.preset;
  const kept = job.made.get(keyOf({ output_container_and_codec: wanted }));
  const link = find("download");
  clear(find("download-error"));
  if (kept) {
    link.href = named(kept.url, fileName(job.kind, wanted));
    link.download = fileName(job.kind, wanted);
    link.textContent = `Download the ${job.kind === "cutout" ? "cut-out" : job.kind}`;
  } else link.removeAttribute("href");
  link.tabIndex = 0;
  link.setAttribute("role", kept ? "link" : "button");
  find("download-said").textContent = kept
    ? [fileName(job.kind, wanted), kept.bytes && bytes(kept.bytes)].filter(Boolean).join(", ")
    : `${PRESETS[wanted].means} Made in a moment, without masking again.`;
}

const SUFFIXES = { png_zip: "zip", apng: "png" };
const fileName = (kind, form) => `${job.base}.${kind}.${SUFFIXES[form] ?? form.split("_")[0]}`;

// The service names a file as the link wants it; a cloud's store does not, and its links are signed as they are.
const named = (url, name) => (url.startsWith("/v2/files/") ? `${url}&name=${encodeURIComponent(name)}` : url);

// What the player shows, as a conversion's body; null where that is no result.
async function seenBody() {
  const { view, backing } = seen();
  const matte = matteFields();
  if (view === "mask") {
    delete matte.despill; // a mask has no colours
    return { kind: "mask", output_container_and_codec: find("other").value, ...matte };
  }
  if (view !== "cutout") return null;
  const body = { output_container_and_codec: "mp4_h264", kind: "composite", ...matte };
  switch (backing.kind) {
    case "colour":
      return { ...body, background: backing.colour };
    case "blur":
      return { ...body, background: "blur" };
    case "original":
      return { ...body, background: "original" };
    case "picture":
      return { ...body, background_url: await pictureUrl(backing.picture) };
    default:
      return { ...body, output_container_and_codec: "webm_vp9", kind: "cutout" };
  }
}

async function pictureUrl(picture) {
  if (!pictures.has(picture)) pictures.set(picture, await upload(picture, () => {}, new AbortController().signal));
  return pictures.get(picture);
}

// Called whenever the view, the background or the matte changes.
export function renderSeen() {
  if (find("result").hidden) return;
  const { view, backing } = seen();
  const matte = matteFields();
  if (view === "mask") delete matte.despill;
  const worked = Object.entries(matte).map(([name, value]) => `${name.replace("_px", "")}${value === true ? "" : ` ${value}`}`);
  const what = { mask: "The mask", cutout: `The cut-out ${SEEN[backing.kind]}` }[view];
  find("seen-make").disabled = !what;
  clear(find("seen-error"));
  sayOf("seen", what ? [what, ...worked].join(", ") : "Choose Mask or Cut-out above the player.");
}

async function makeSeen() {
  const button = find("seen-make");
  const said = find("seen-said").textContent;
  button.disabled = true;
  try {
    await offer(button, "seen", await seenBody(), said);
  } catch (error) {
    fail("seen", error); // the picture could not be uploaded
  }
  button.disabled = false;
}

async function makeMask(preset) {
  await offer(find("download"), "download", { output_container_and_codec: preset }, "The mask");
  if (find("other").value === preset) renderDownload();
}

// Makes it, saves it, and leaves a link to it. `id` names the line where that is told.
async function offer(button, id, body, said) {
  clear(find(`${id}-error`));
  const kind = body.kind ?? "mask";
  button.setAttribute("aria-busy", "true");
  sayOf(id, `${said}: being made …`);
  try {
    const made = await produce(body, (share) => sayOf(id, `${said}: ${share} %`));
    const name = fileName(kind, body.output_container_and_codec);
    const link = make("a", { href: named(made.url, name), download: name, textContent: name });
    find(`${id}-said`).replaceChildren(link, made.bytes ? `, ${bytes(made.bytes)}` : "");
    show(find(`${id}-said`));
    link.click();
  } catch (error) {
    fail(id, error);
  }
  button.removeAttribute("aria-busy");
}

function fail(id, error) {
  sayOf(id, "");
  explain(find(`${id}-error`), error);
}

function sayOf(id, text) {
  find(`${id}-said`).textContent = text;
  show(find(`${id}-said`), text !== "");
}

// A mask in another format; answers the job that made it.
export const convert = async (preset) => (await produce({ output_container_and_codec: preset })).id;

// What the service makes of the stored mask; each thing once.
async function produce(body, onProgress = null) {
  const { id: source, made } = job;
  const wanted = Object.fromEntries(Object.entries(body).filter(([name, value]) => !(name === "kind" && value === "mask")));
  const key = keyOf(wanted);
  if (made.has(key)) return made.get(key);
  if (job.video && body.kind && body.kind !== "mask") body = { ...body, video: job.video };
  const { request_id: id } = await askJson("POST", `/v2/status/${source}/convert`, body);
  for (;;) {
    const status = await askJson("GET", `/v2/status/${id}`);
    if (status.status === "COMPLETED") {
      const ready = { id, url: here(status.result.video_url), bytes: status.result.report?.bytes };
      made.set(key, ready);
      return ready;
    }
    if (status.status !== "IN_PROGRESS") throw Object.assign(new Error(status.error.details), status.error);
    onProgress?.(status.progress ?? 0);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
