// The result: downloads of the mask and of whatever the player shows, made by the service from the stored mask.
import { askJson, complain, here, upload } from "./api.js";
import { QUALITIES, USES, presetOptions } from "./choices.js";
import { bytes, find, listFacts, make, percent, seconds, setUpMenu, show, toast } from "./dom.js";
import { matteFields } from "./matte.js";
import { linkTo } from "./recent.js";
import { seen } from "./stage.js";

const POLL_MS = 300;
const job = { id: "", kind: "mask", base: "clip", preset: "mp4_h264", video: "", made: new Map() };
const pictures = new WeakMap(); // the file_url of each picture that was uploaded
const SEEN = { checker: "with alpha", colour: "on a colour", picture: "on the picture", blur: "on the clip, blurred", original: "on the clip, darker" };

// `onAgain(quality)` masks the same clip anew; `onNew` asks for another clip.
export function setUpResult(onAgain, onNew) {
  find("result-new").addEventListener("click", onNew);
  find("other").append(...presetOptions());
  find("mask-make").addEventListener("click", () => offer({ output_container_and_codec: job.kind === "mask" ? find("other").value : job.preset }));
  find("seen-make").addEventListener("click", async () => {
    try {
      offer(await seenBody());
    } catch (error) {
      complain(error); // the picture could not be uploaded
    }
  });
  for (const { label, form, means } of USES) {
    const button = make("button", { type: "button" }, make("strong", { textContent: label }), make("span", { textContent: means }));
    button.addEventListener("click", () => offer({ kind: "cutout", output_container_and_codec: form, ...matteFields() }));
    find("uses").append(button);
  }
  setUpMenu(find("download-menu"));
  for (const { value, label, means } of QUALITIES) {
    const button = make("button", { type: "button", id: `again-${value}`, textContent: label, title: means });
    button.addEventListener("click", () => onAgain(value));
    find("again").append(button);
  }
}

// `can` says whether the clip can be sent again; `video` is its URL where the service has no copy, `from` says where a part of it begins.
export function showResult(status, { name, preset, quality, video, from, can, said }) {
  const { report = {}, video_url: link, kind = "mask" } = status.result;
  const base = (name || "clip").replace(/\.[^.]*$/, "");
  Object.assign(job, { id: status.request_id, kind, base, preset, video, made: new Map() });
  if (link) job.made.set(keyOf({ output_container_and_codec: preset }), { id: job.id, url: here(link), bytes: report.bytes });
  find("result-title").textContent = said;
  find("result-name").textContent = [name, report.frames_out && `${report.frames_out} frames`, report.duration_s && seconds(report.duration_s), from].filter(Boolean).join(" · ");
  find("other").value = preset;
  find("mask-make").firstChild.textContent = { mask: "Mask", cutout: "Cut-out" }[kind] ?? "Composite";
  show(find("mask-make").lastChild, kind === "mask");
  // What another program has made is only shown and downloaded: there is no mask to work on.
  for (const element of [find("other"), ...find("uses").querySelectorAll(":scope > button"), find("matte-fold"), find("again-fold")]) show(element, kind === "mask");
  for (const { value } of QUALITIES) {
    const button = find(`again-${value}`);
    button.disabled = !can;
    button.setAttribute("aria-pressed", String(value === quality));
  }
  listFacts(find("report-facts"), facts(report, status.request_id));
  find("report-warnings").replaceChildren(...(report.warnings ?? []).map((text) => make("li", { textContent: text })));
  find("permalink").href = linkTo(job.id);
  show(find("result"));
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

const fileName = (kind, form) => `${job.base}.${kind}.${form === "png_zip" ? "zip" : form.split("_")[0]}`;

// The service names a file as the link wants it; a cloud's store does not, and its links are signed as they are.
const named = (url, name) => (url.startsWith("/v2/files/") && !url.includes("&name=") ? `${url}&name=${encodeURIComponent(name)}` : url);

// What the player shows, as a conversion's body.
async function seenBody() {
  const { view, backing } = seen();
  const matte = matteFields();
  if (view === "mask") {
    delete matte.despill; // a mask has no colours
    return { kind: "mask", output_container_and_codec: find("other").value, ...matte };
  }
  const body = { output_container_and_codec: "mp4_h264", kind: "composite", ...matte };
  if (backing.kind === "checker") return { ...body, output_container_and_codec: "webm_vp9", kind: "cutout" };
  if (backing.kind === "picture") return { ...body, background_url: await pictureUrl(backing.picture) };
  return { ...body, background: backing.kind === "colour" ? backing.colour : backing.kind };
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
  const worked = Object.entries(matte).map(([name, value]) => `${name === "min_part_px" ? "no specks under" : name.replace("_px", "")}${value === true ? "" : ` ${value}`}`);
  const what = { mask: "the mask", cutout: `the cut-out ${SEEN[backing.kind]}` }[view];
  find("seen-make").disabled = !what;
  find("seen-said").textContent = what ? [what, ...worked].join(", ") : "choose Mask or Cut-out";
}

// Makes it, saves it, and leaves a link to it.
async function offer(body) {
  const name = fileName(job.kind === "mask" ? (body.kind ?? "mask") : job.kind, body.output_container_and_codec);
  const note = toast();
  note.say(`${name}: being made …`);
  try {
    const made = await produce(body, (share) => note.say(`${name}: ${share} %`));
    const link = make("a", { href: named(made.url, name), download: name, textContent: name });
    note.done(link, made.bytes ? `, ${bytes(made.bytes)}` : "");
    link.click();
  } catch (error) {
    complain(error, note);
  }
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
