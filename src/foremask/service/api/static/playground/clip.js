// The clip: dropped, chosen, pasted or the sample; uploaded where need be, and what the service says of it.
import { ask, askJson, clear, explain, submission, upload } from "./api.js";
import { bytes, find, make, seconds, show } from "./dom.js";
import { preset } from "./choices.js";
import { needToken, refuse } from "./token.js";
import { isWhole, partFields, setPart } from "./trim.js";

const MAX_BYTES = 2 ** 30;

// `video` is what a job is sent, `blob` what the player plays (or a URL of this service); `facts` come with the verdict.
// `busy` while it is on its way: then a job can be ordered already.
export const clip = { video: "", blob: null, facts: null, name: "", busy: false, refused: false };
let attempt = new AbortController();
let tell = () => {};
let long_s = 0; // how long the clip is where the service takes only a part of it
let most_s = null; // how long such a part may be

const isPicture = (file) => file.type.startsWith("image/") && file.type !== "image/gif";

// `onPicture(file)` gets a picture that was dropped or chosen.
export function setUpClip(onChange, onPicture) {
  tell = onChange;
  addEventListener("beforeunload", (event) => find("upload").hidden || event.preventDefault());
  const drop = find("drop");
  sayFile(null);
  find("file").addEventListener("change", () => {
    const [file] = find("file").files;
    if (!file) return;
    if (!isPicture(file)) return takeFile(file);
    find("file").value = "";
    onPicture(file);
  });
  for (const name of ["dragenter", "dragover"])
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  for (const name of ["dragleave", "drop"])
    document.addEventListener(name, (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      if (name === "drop" || event.relatedTarget === null) drop.classList.remove("over");
    });
  document.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    const url = event.dataTransfer.getData("text/uri-list");
    if (file && isPicture(file)) onPicture(file);
    else if (file) takeFile(file);
    else if (url) takeUrl(url);
  });
  find("look").addEventListener("click", () => takeUrl(find("url").value.trim()));
  find("url").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    takeUrl(find("url").value.trim());
  });
  find("url").addEventListener("paste", () => setTimeout(() => takeUrl(find("url").value.trim())));
}

// The preset is part of the verdict: not each can carry each clip.
export async function probeAgain() {
  if (clip.video) await probe(attempt.signal);
}

// The clip of a job that is opened again: nothing has to be sent.
export function restore(source, name, facts) {
  attempt.abort();
  attempt = new AbortController();
  find("url").value = "";
  Object.assign(clip, { video: source, blob: source || null, facts, name, busy: false, refused: false });
  for (const id of ["clip-error", "verdict", "upload"]) show(find(id), false);
  sayFile(name ? { name } : null);
  tell();
}

// No clip: the form is as at first.
export function forgetClip() {
  begin(null, "");
}

function begin(blob, name) {
  attempt.abort();
  attempt = new AbortController();
  Object.assign(clip, { blob, video: "", facts: null, name, busy: name !== "", refused: false });
  clear(find("clip-error"), find("url"));
  find("file").removeAttribute("aria-invalid");
  sayFile(blob);
  find("url").value = "";
  find("file").value = "";
  long_s = 0;
  show(find("verdict"), false);
  show(find("upload"), false);
  tell();
  return attempt.signal;
}

function sayFile(file) {
  find("file-said").replaceChildren(
    ...(file ? [make("strong", { textContent: file.name }), file.size ? ` ${bytes(file.size)}` : ""] : [make("strong", { textContent: "Drop a video here" })]),
    make("span", file ? { className: "button", textContent: "Choose another" } : { className: "button primary", textContent: "Choose a file" }),
  );
}

export async function takeFile(file) {
  const signal = begin(file, file.name);
  if (file.size > MAX_BYTES)
    return no({ reason: "file_too_large", message: `The file has ${bytes(file.size)}; at most 1 GiB is taken.` });
  await needToken();
  try {
    show(find("upload"));
    const began = performance.now();
    clip.video = await upload(file, (sent, total) => {
      find("upload-bar").value = sent / total;
      find("upload-said").textContent = sent < total ? uploadSaid(sent, total, (performance.now() - began) / 1000) : "Reading it …";
    }, signal);
    await probe(signal);
  } catch (error) {
    no(error);
  } finally {
    if (!signal.aborted) show(find("upload"), false);
  }
}

function uploadSaid(sent, total, elapsed_s) {
  const left_s = (elapsed_s * (total - sent)) / Math.max(1, sent);
  return `Uploading: ${bytes(sent)} of ${bytes(total)}${elapsed_s > 0.7 ? `, about ${seconds(left_s)} left` : ""}`;
}

async function takeUrl(url) {
  if (!url) return;
  const signal = begin(null, nameIn(url));
  find("url").value = url;
  await needToken();
  clip.video = url;
  say("Looking at it …", false);
  if (await probe(signal)) bring(url, signal);
}

function nameIn(url) {
  const path = url.split(/[?#]/)[0];
  try {
    return decodeURIComponent(path.split("/").at(-1)) || "clip";
  } catch {
    return "clip";
  }
}

// The clip of a URL, through the service: no other host hears of this page.
export async function bring(url, signal = attempt.signal) {
  try {
    const blob = await (await ask("POST", "/v2/playground/clip", { video: url, ...(long_s ? partFields() : {}) }, signal)).blob();
    if (signal.aborted) return;
    clip.blob = blob;
    tell();
  } catch (error) {
    if (error.name !== "AbortError") say(`${find("verdict").textContent}. The player cannot show it: ${error.message}`);
  }
}

async function probe(signal) {
  const wanted = submission({ video: clip.video, output_container_and_codec: preset(), ...(long_s ? partFields() : {}) });
  try {
    const { result } = await askJson("POST", "/v2/video/probe", wanted, signal);
    clear(find("clip-error"), find("url"));
    clear(find("preset-error"), find("preset"));
    const facts = long_s ? { ...result, duration_s: long_s, most_s } : result;
    Object.assign(clip, { facts, busy: false });
    const later = facts.vfr ? ". Its rate varies: mark the subject after a first mask." : "";
    const faults = (facts.warnings ?? []).filter((each) => each.startsWith("the file was cut off")).map((each) => `. Note: ${each}`).join("");
    say(describe(facts) + faults + later + (long_s ? `. At most ${seconds(most_s)} of it is masked at once: choose where the part starts and ends.` : ""));
    tell();
    return true;
  } catch (error) {
    if (error.reason === "duration_too_long" && !long_s) {
      long_s = error.actual;
      most_s = error.limit;
      if (isWhole()) setPart({ end_s: most_s });
      return probe(signal);
    }
    // An upload is in the service's own store: if that is too slow to look at it, the service is busy, and a job is accepted.
    if (error.reason !== "url_unreachable" || atFault() !== "file") {
      no(error);
      return false;
    }
    clear(find("clip-error"), find("url"));
    Object.assign(clip, { facts: {}, busy: false });
    say("The service is too busy to check the clip. Make the mask all the same: it says then if the clip has a fault.", false);
    tell();
    return true;
  }
}

function no(error) {
  if (error.name === "AbortError") return;
  if (error.reason?.startsWith("token_")) {
    clip.busy = false;
    tell();
    return refuse(error);
  }
  const ofPreset = error.reason === "preset_cannot" || error.param === "output_container_and_codec";
  Object.assign(clip, { facts: null, busy: false, refused: !ofPreset });
  if (!ofPreset) clip.video = "";
  show(find("verdict"), false);
  explain(find(ofPreset ? "preset-error" : "clip-error"), error, find(ofPreset ? "preset" : atFault()));
  tell();
}

// Where the clip came from: what is wrong with it stands there.
export const atFault = () => (find("url").value === "" ? "file" : "url");

function say(text, good = true) {
  find("verdict").textContent = text;
  find("verdict").classList.toggle("yes", good);
  show(find("verdict"));
}

function describe(facts) {
  const turned = facts.rotation % 180 !== 0;
  const [width, height] = turned ? [facts.height, facts.width] : [facts.width, facts.height];
  const said = [
    `${width} × ${height}`,
    `${facts.fps ? +facts.fps.toFixed(3) : "?"} fps${facts.vfr ? ", varying" : ""}`,
    facts.duration_s === null ? "" : seconds(facts.duration_s),
    `${facts.codec} in ${facts.container}`,
    facts.audio.length ? `sound: ${facts.audio.map((each) => each.codec).join(", ")}` : "no sound",
  ];
  return said.filter(Boolean).join(" · ");
}
