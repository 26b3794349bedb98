// The stage: one canvas for source and mask, its views and wipe, and the transport below it.
import { currentBacking, setUpBacking, takePicture } from "./backing.js";
import { Compositor, NEUTRAL, VIEWS } from "./compositor.js";
import { find, make, percent, prefersStill, radios, show } from "./dom.js";
import { Neighbours } from "./neighbours.js";
import { Pair } from "./pairing.js";
import { Strip } from "./strip.js";

const REACHED_MS = 8000; // a busy browser seeks slowly
export const MOST_SENT = 900_000; // characters; the service takes a body of 1 MiB
const MOST_MASK_SENT = 140_000; // beside such a picture
const REPORTED_MS = 500; // a clip that was just opened tells when its first frame is
const INSIDE_S = 0.002; // a video that is sought at a frame's very edge may show the one before
const SWEEP_MS = 3600;
const LABELS = { source: "Source", mask: "Mask", cutout: "Cut-out", overlay: "Outline" };
let compositor, pair, strip;
let beside = null; // finds the frames beside the one that is shown, where their times are not known
let stepped = Promise.resolve(); // once the last step is done
let begins_s = NaN; // when the frame begins to which the last step led
let toldOfView = () => {};
const frames = { times_s: null, fps: 30, vfr: false, start_s: null, cut: false, count: 1, known: false, first_s: null, now: 0, asked: null }; // `count` is a guess until it is `known`
const urls = { source: "", mask: "" };
const previews = new Map(); // by frame, textures that are shown instead of the mask
const marking = { on: false, view: "cutout", wipe: true, tell: () => {} };
let sweeping = 0;
let titled = "The clip";
let shownWidth_px = 0;

// `onView()` is called when another view or background is chosen.
export function setUpStage(onView) {
  toldOfView = onView;
  try {
    compositor = new Compositor(find("canvas"));
  } catch (error) {
    note(error.message);
    return;
  }
  pair = new Pair(compositor, onShow);
  pair.insteadOfMask = (time_s) => previews.get(frameAt(time_s)) ?? null;
  strip = new Strip(find("strip"), goTo, step, togglePlay);
  radios(find("view-choice"), "view", VIEWS.map((value) => ({ value, label: LABELS[value] })), "cutout", choose);
  setUpWipe();
  setUpBacking(compositor, () => {
    pair.refresh();
    toldOfView();
  }, note);
  setUpTransport();
  document.addEventListener("keydown", (event) => {
    if (document.documentElement.dataset.mode === "camera") return;
    if (event.target === document.body || find("stage").contains(event.target)) onKey(event);
  });
}

// Whether something may move before anybody asks for it.
export const moves = () => !prefersStill() && !compositor?.slow;

// What is seen: `view` and, behind a cut-out, the backing.
export const seen = () => ({ view: compositor ? VIEWS[compositor.settings.view] : "mask", backing: currentBacking() });

export const dropPicture = (file) => {
  if (!pair || find("views").hidden) return;
  chooseView("cutout");
  return takePicture(file);
};

export function chooseView(view) {
  find(`view-${view}`).checked = true;
  choose(view);
}

export function setMatte(matte) {
  if (!pair) return;
  compositor.settings.matte = matte;
  pair.refresh();
}

// A small cut-out of the frame that is shown, or the frame where there is no mask, as a data URL; null without a clip.
export function takeThumbnail() {
  if (find("frame").hidden || !pair?.shown) return null;
  return copyOf(240, () => pair.redraw(), { view: VIEWS.indexOf("cutout"), wipe: 0 }).toDataURL("image/webp", 0.7);
}

// What `draw` draws with other settings, at most so large.
function copyOf(most_px, draw, settings = {}) {
  const { width, height } = find("canvas");
  const scale = Math.min(1, most_px / Math.max(width, height));
  const copy = make("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  const before = { ...compositor.settings };
  Object.assign(compositor.settings, settings);
  draw();
  copy.getContext("2d").drawImage(find("canvas"), 0, 0, copy.width, copy.height);
  Object.assign(compositor.settings, before);
  pair.redraw();
  return copy;
}

// What plays: the source is a blob, a URL or null. Whatever mask there was is gone.
export async function showSource(source, facts, name = "The clip") {
  if (!pair) return;
  closeAll();
  titled = name;
  find("empty").textContent = source ? "Opening the clip …" : "Your clip plays here.";
  show(find("empty"));
  if (!source) return;
  urls.source = typeof source === "string" ? source : URL.createObjectURL(source);
  try {
    if (!(await open(pair.source, urls.source))) return;
  } catch {
    find("empty").textContent = "The mask plays here when it is made.";
    note(`This browser cannot play ${facts ? facts.codec : "this file"}. Its mask will show all the same.`);
  }
  describe(facts);
}

// A picture and its mask, without any time.
export async function showStill(picture, mask, name) {
  if (!pair) return;
  closeAll();
  titled = name;
  compositor.setSize(picture.width, picture.height);
  find("canvas").setAttribute("aria-label", `${name}, ${picture.width} by ${picture.height} pixels`);
  pair.showStill(picture, mask);
  show(find("empty"), false);
  for (const id of ["frame", "views"]) show(find(id));
  find("stage").classList.add("still");
  for (const input of find("view-choice").querySelectorAll("input")) input.disabled = false;
  find("wipe-on").disabled = find("wipe-on").checked = false;
  choose(/** @type {HTMLInputElement} */ (document.querySelector("[name=view]:checked")).value);
}

// A canvas of this size with what `draw(pen, canvas)` draws on it.
export function drawOnto(width, height, draw) {
  const canvas = make("canvas", { width, height });
  draw(canvas.getContext("2d", { willReadFrequently: true }), canvas);
  return canvas;
}

// With `wipe`, the source lies over the left part of it.
export async function showMask(url, facts, report, { playing = true, wipe = false } = {}) {
  if (!pair) return;
  compareWith("");
  marking.wipe = wipe;
  find("wipe-on").checked = wipe && !marking.on;
  describe(facts, report);
  if (!url) return note("This browser cannot play this format: download the mask, or make it in another one.");
  const at_s = pair.source.loaded ? pair.source.now_s : 0;
  try {
    if (!(await open(pair.mask, url))) return;
    setPreview(); // the mask is made with the marks now
    await sought(pair.mask.video); // a person may have sought a frame while the mask loaded
    setWipe(pair.source.loaded ? centre() : 0.5); // before it seeks: until it has, it shows nothing
    if (pair.source.loaded) pair.mask.now_s = at_s;
  } catch {
    return note("This browser cannot play this mask: download it, or make it in another format.");
  }
  const both = pair.source.loaded;
  if (both) note("");
  show(find("views"));
  for (const input of find("view-choice").querySelectorAll("input")) input.disabled = !both && input.value !== "mask";
  find("wipe-on").disabled = !both;
  if (marking.on && both) chooseView("overlay");
  else choose(/** @type {HTMLInputElement} */ (document.querySelector("[name=view]:checked")).value);
  const begins_s = marking.on && both ? at_s : pair.from_s; // a marked frame stays, to be compared with its preview
  pair.jump(frames.asked === null ? begins_s : momentOf(frames.asked)); // somebody may have gone to a frame meanwhile
  if (playing && !marking.on) pair.play().then(renderPlay);
  fit();
}

// Another result of the clip, by the link to its mask, lies left of the wipe; without one, it is the source.
export async function compareWith(url, ours = "", theirs = "") {
  if (!pair) return;
  pair.closeOther();
  for (const [id, name] of [["tag-right", ours], ["tag-left", theirs]]) {
    find(id).textContent = name;
    show(find(id), url !== "");
  }
  if (!url) {
    find("against").value = "";
    return renderWipe();
  }
  try {
    if (!(await pair.other.open(url))) return;
    await sought(pair.other.video);
    pair.seek(momentOf(frames.now));
  } catch {
    return note("This browser cannot play the other mask.");
  }
  find("wipe-on").checked = true;
  renderWipe();
}

// A video that seeks has no picture to draw.
async function sought(video) {
  if (video.seeking) await new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
}

// Waits until the canvas shows the mask.
export const maskShown = () => comesTrue(() => !pair || pair.shown?.mask);

// Waits until the condition is true; false where it has not become so in time.
async function comesTrue(condition, most_ms = REACHED_MS) {
  const until_ms = performance.now() + most_ms;
  while (!condition()) {
    if (performance.now() > until_ms) return false;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return true;
}

// Each frame's time, coverage and change, where the service has told them.
export function showStrip(rows) {
  const first_s = rows[0][0];
  frames.times_s = rows.map(([time_s]) => time_s - first_s);
  startAt(first_s); // a browser that counts from the clip's first frame reports less, and is believed
  Object.assign(frames, { count: rows.length, known: true });
  strip.data = rows;
  show(find("strip-legend"));
  renderNumber();
}

async function open(track, url) {
  const video = await track.open(url);
  if (!video) return false;
  if (track === pair.leader) compositor.setSize(video.videoWidth, video.videoHeight);
  pair.refresh(); // its first frame may have been drawn at another size
  find("canvas").setAttribute("aria-label", `${titled}, ${video.videoWidth} by ${video.videoHeight} pixels`);
  show(find("empty"), false);
  show(find("frame"));
  show(find("transport"));
  fit();
  return true;
}

function closeAll() {
  setPreview();
  sweeping = 0;
  beside?.close();
  beside = null;
  begins_s = NaN;
  pair.close();
  find("stage").classList.remove("still");
  renderPlay();
  if (urls.source.startsWith("blob:")) URL.revokeObjectURL(urls.source);
  Object.assign(urls, { source: "", mask: "" });
  Object.assign(frames, { times_s: null, start_s: null, cut: false, count: 1, known: false, first_s: null, now: 0, asked: null });
  strip.data = null;
  strip.part = [0, Infinity];
  for (const name of ["frame", "transport", "views", "strip-legend", "wipe", "tag-left", "tag-right"]) show(find(name), false);
  note("");
}

// What is known of the clip: how fast it is, and by the report of its mask how many frames it has.
export function describe(facts, report) {
  if (!pair) return;
  frames.fps = facts?.fps || report?.fps || 30;
  frames.vfr = Boolean(facts?.vfr);
  frames.start_s = facts?.start_s ?? null;
  const length_s = facts?.duration_s ?? (pair.leader.loaded ? pair.leader.video.duration : 0);
  frames.known = report?.frames_out !== undefined;
  frames.count = report?.frames_out ?? facts?.frames ?? Math.max(1, Math.round(length_s * frames.fps));
  pair.tolerance_s = Math.min(0.004, 0.4 / frames.fps);
  renderNumber();
}

function note(text) {
  find("stage-note").textContent = text;
  show(find("stage-note"), text !== "");
}

// Frames and times

function startAt(time_s) {
  if (!frames.cut) frames.first_s = Math.min(frames.first_s ?? time_s, time_s);
}

function onShow(time_s, reported) {
  if (reported) startAt(time_s);
  const shown = frameAt(time_s);
  if (pair.playing) frames.asked = null;
  if (frames.asked !== null && frames.asked !== shown && !isUncounted()) return; // of an earlier seek, and late
  frames.now = shown;
  renderNumber();
}

// Where the rate varies, only a mask's report tells which frame is when.
const isUncounted = () => frames.vfr && !frames.times_s;

const frameAt = (time_s) => indexAt(time_s - (frames.times_s ? (frames.first_s ?? time_s) : 0));

function indexAt(time_s) {
  const { times_s, fps, count } = frames;
  if (!times_s) return Math.min(count - 1, Math.max(0, Math.round(time_s * fps)));
  let [low, high] = [0, times_s.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times_s[middle] <= time_s + 0.0015) low = middle;
    else high = middle - 1;
  }
  return low;
}

// A moment inside the frame: its edges are where rounding decides.
function momentOf(index) {
  const { times_s, fps, first_s } = frames;
  if (!times_s) return (index + 0.5) / fps;
  const next_s = times_s[index + 1] ?? times_s[index] + 1 / fps;
  return (first_s ?? 0) + (times_s[index] + next_s) / 2;
}

export function goTo(index) {
  const wanted = Math.min(frames.count - 1, Math.max(0, index));
  if (wanted === frames.asked && !pair.playing) return;
  pair.stop();
  renderPlay();
  pair.seek(momentOf(wanted));
  frames.now = frames.asked = wanted;
  renderNumber();
}

// One frame on or back, as it is in the clip.
function step(by) {
  if (!isUncounted() || !pair.source.loaded) return goTo(frames.now + by);
  pair.stop();
  renderPlay();
  stepped = stepped.then(() => stepUncounted(by));
}

async function stepUncounted(by) {
  const { offset_s } = pair.source;
  beside ??= new Neighbours(urls.source);
  const mine = beside;
  await sought(pair.source.video);
  await comesTrue(() => pair.shown || mine !== beside);
  if (!pair.shown || mine !== beside) return; // no frame has come, or the clip was closed
  const here_s = isNear(begins_s) ? begins_s + offset_s : await mine.beginOf(pair.shown.time_s + offset_s + INSIDE_S / 2);
  if (mine !== beside) return;
  if (here_s === null) return goTo(frames.now + by); // this browser tells no frame's time
  const found_s = await (by < 0 ? mine.before(here_s) : mine.after(here_s, 1 / frames.fps));
  if (found_s === null || mine !== beside) return;
  begins_s = found_s - offset_s;
  frames.asked = null;
  pair.seek(begins_s + INSIDE_S / 2);
  await comesTrue(() => isNear(begins_s) || mine !== beside);
}

// Whether the frame that is shown is the one that begins at this moment.
const isNear = (time_s) => Math.abs(pair.shown?.time_s - time_s) < INSIDE_S;

// When the frame that is shown begins, in seconds from the clip's first frame.
const shownFrom_s = () => Math.max(0, (isNear(begins_s) ? begins_s : pair.shown.time_s) - (frames.first_s ?? 0));

function renderNumber() {
  const { now, count, known, times_s, fps } = frames;
  show(find("number-label"), !isUncounted());
  if (document.activeElement !== find("number")) find("number").value = now;
  find("total").textContent = known ? `of 0 to ${count - 1}` : "";
  let at_s = times_s ? times_s[now] : now / fps;
  if (isUncounted() && pair.shown) at_s = shownFrom_s();
  find("time").textContent = `${Math.floor(at_s / 60)}:${(at_s % 60).toFixed(3).padStart(6, "0")}`;
  strip.moveTo(now, count, known);
  if (marking.on) marking.tell();
  const [, coverage, change] = strip.rows?.[now] ?? [0, 0, 0];
  find("strip-coverage").textContent = `foreground ${percent(coverage)}`;
  find("strip-flicker").textContent = `change ${percent(change)}`;
}

// A part of the clip

// When the frame that is shown begins, and a moment from which on it is no longer shown, in seconds from the clip's
// first frame. The service takes a time that is 0.6 ms off as a frame's own.
export function momentHere() {
  const { now, fps, vfr } = frames;
  const shown_s = shownFrom_s();
  if (vfr) return { from_s: thousandths(shown_s), until_s: thousandths(shown_s + 0.002) };
  const isItsOwn = pair.shown.reported && Math.abs(shown_s - now / fps) < 0.5 / fps;
  const from_s = isItsOwn ? shown_s : now / fps;
  const isRounded = Math.abs(from_s - now / fps) < 0.0011; // at most: some writers cut times to milliseconds
  const until_s = isRounded ? (now + 1) / fps : from_s + 1 / fps;
  return { from_s: thousandths(from_s), until_s: Math.floor(1000 * until_s + 0.01) / 1000 };
}

const thousandths = (time_s) => Math.round(1000 * time_s) / 1000;

export const goToMoment = (time_s) => pair?.source.loaded && goTo(frameFrom(time_s));

// The first frame that is shown from this moment on.
export const frameFrom = (time_s) => Math.round(time_s * frames.fps);

// The part of the clip that is played over and over, and that the strip shows.
export function showPart({ start_s, end_s }) {
  if (!pair) return;
  const begins_s = frames.first_s ?? 0;
  pair.from_s = start_s || frames.cut ? begins_s + start_s + INSIDE_S : 0;
  pair.until_s = end_s === null ? Infinity : begins_s + end_s;
  strip.part = [frameFrom(start_s), end_s === null ? Infinity : frameFrom(end_s)];
  strip.draw();
}

// From now on the player knows the part alone: its mask counts frames and times from the part's start.
export async function cutTo(part) {
  if (!pair?.source.loaded) return;
  const { start_s, end_s } = part;
  setPreview();
  pair.stop();
  renderPlay();
  pair.source.rebase((await firstOfSource()) + start_s);
  Object.assign(frames, { first_s: 0, now: 0, asked: null, times_s: null, cut: true });
  showPart({ start_s: 0, end_s: end_s === null ? null : end_s - start_s });
  pair.seek(0.5 / frames.fps);
  await sought(pair.source.video);
}

// The time of the clip's first frame, as the browser counts: by the clip's own times, or from 0.
async function firstOfSource() {
  await comesTrue(() => pair.source.first_s !== null, REPORTED_MS);
  const { start_s, fps } = frames;
  const reported_s = pair.source.first_s ?? 0;
  if (start_s === null) return reported_s; // of a job that was opened again: the first frame has just been shown
  return reported_s < start_s - 0.5 / fps ? 0 : start_s;
}

// Marks and previews

export const canMark = () => Boolean(pair?.source.loaded);
export const shownFrame = () => frames.now;

export function pauseHere() {
  if (pair.playing) togglePlay();
}

// While marks are made, the foreground is outlined, and the pointer moves no wipe. `onFrame()` is called at each frame.
export function setMarking(on, onFrame) {
  if (!pair || on === marking.on) return;
  if (on) {
    Object.assign(marking, { view: VIEWS[compositor.settings.view], wipe: find("wipe-on").checked, tell: onFrame });
    pauseHere();
  }
  marking.on = on;
  find("stage").classList.toggle("marking", on);
  find("wipe-on").checked = !on && marking.wipe;
  if (find("views").hidden) compositor.settings.view = VIEWS.indexOf(on ? "overlay" : marking.view);
  else chooseView(on ? "overlay" : marking.view);
  renderWipe();
  fit();
}

// Waits until the canvas shows the frame; false where it does not come.
export const reached = (index) => comesTrue(() => pair.shown && frameAt(pair.shown.time_s) === index);

// The frame that is shown as a data URL, at most so large; `scale` leads from the clip's pixels to the picture's.
export function takeFrame(most_px) {
  const copy = copyOf(most_px, () => compositor.draw(pair.shown.source, null));
  const url = copy.toDataURL("image/jpeg", 0.92);
  const small = url.length < MOST_SENT ? url : copy.toDataURL("image/jpeg", 0.6);
  return { url: small, width: copy.width, height: copy.height, scale: copy.width / find("canvas").width };
}

// The mask of the frame that is shown, as it is in the result, as a data URL of the same size; null where there is none.
export function takeMask(most_px) {
  const { source, mask } = pair.shown;
  if (!mask) return null;
  const settings = { view: VIEWS.indexOf("mask"), wipe: 0, matte: { ...NEUTRAL } };
  const copy = copyOf(most_px, () => compositor.draw(source, mask), settings);
  const url = copy.toDataURL("image/png");
  return url.length < MOST_MASK_SENT ? url : copy.toDataURL("image/jpeg", 0.9);
}

// A picture that is shown instead of a frame's mask, or null to take it away; without a frame, all go.
export function setPreview(index = null, picture = null) {
  if (!pair) return;
  for (const each of index === null ? [...previews.keys()] : [index]) {
    if (previews.has(each)) compositor.drop(previews.get(each));
    previews.delete(each);
  }
  if (picture) {
    const texture = compositor.texture();
    compositor.load(texture, picture);
    previews.set(index, texture);
  }
  pair.refresh();
}

// Views

function choose(view) {
  compositor.settings.view = VIEWS.indexOf(view);
  show(find("backing"), view === "cutout");
  renderWipe();
  fit();
  toldOfView();
}

function setUpWipe() {
  const handle = find("wipe");
  const drag = (event) => {
    const box = find("canvas").getBoundingClientRect();
    setWipe((event.clientX - box.left) / box.width);
  };
  for (const target of [handle, find("canvas")]) {
    target.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || handle.hidden) return;
      sweeping = 0;
      target.setPointerCapture(event.pointerId);
      drag(event);
      target.addEventListener("pointermove", drag);
      target.addEventListener("pointerup", () => target.removeEventListener("pointermove", drag), { once: true });
    });
  }
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.01, ArrowRight: 0.01, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    sweeping = 0;
    setWipe(compositor.settings.position + step);
  });
  find("wipe-on").addEventListener("change", renderWipe);
  compositor.settings.position = 0.5;
}

function setWipe(position) {
  compositor.settings.position = Math.min(1, Math.max(0, position));
  renderWipe();
}

// Where the subject's middle is from left to right, on the frame that the mask shows; the middle where there is none.
function centre() {
  const [width, height] = [64, 36];
  const pen = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  pen.drawImage(pair.mask.video, 0, 0, width, height);
  const { data } = pen.getImageData(0, 0, width, height);
  let [sum, moment] = [0, 0];
  for (let at = 0; at < width * height; at++) {
    sum += data[4 * at];
    moment += data[4 * at] * ((at % width) + 0.5);
  }
  return sum > 255 ? moment / sum / width : 0.5;
}

// Once over the whole picture, then to where it was; stops when somebody takes hold of the wipe.
export function sweep() {
  const rest = compositor.settings.position;
  const mine = (sweeping = performance.now());
  const move = (now) => {
    if (sweeping !== mine) return;
    const share = Math.min(1, Math.max(0, (now - mine) / SWEEP_MS));
    const swing = 0.5 + 0.46 * Math.cos(Math.PI * Math.min(1, share / 0.6));
    const back = Math.max(0, (share - 0.6) / 0.4);
    setWipe(back ? 0.04 + (rest - 0.04) * (0.5 - 0.5 * Math.cos(Math.PI * back)) : swing);
    pair.draw(); // inside an animation frame: the picture moves with the handle
    if (share < 1) requestAnimationFrame(move);
  };
  requestAnimationFrame(move);
}

function renderWipe() {
  const { settings } = compositor;
  const on = find("wipe-on").checked && (pair.tracks.length > 1 || pair.still) && VIEWS[settings.view] !== "source";
  settings.wipe = on ? settings.position : 0;
  const handle = find("wipe");
  show(handle, on);
  placeHandle();
  const share = Math.round(100 * settings.position);
  handle.setAttribute("aria-valuenow", share);
  handle.setAttribute("aria-valuetext", `${share} percent source`);
  pair.refresh();
}

// By a translation: a handle whose layout changes at each frame would count as a page that shifts.
function placeHandle() {
  find("wipe").style.translate = `${Math.round(10 * compositor.settings.position * shownWidth_px) / 10}px`;
}

// Transport

function setUpTransport() {
  find("play").addEventListener("click", togglePlay);
  find("back").addEventListener("click", () => step(-1));
  find("forward").addEventListener("click", () => step(1));
  const goToNumber = () => goTo(parseInt(find("number").value.replace("@", ""), 10) || 0);
  find("number").addEventListener("change", goToNumber);
  find("number").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    goToNumber(); // also to the number that is there already: no change is told of
    find("number").blur();
  });
  toggle("loop", (on) => (pair.looping = on));
  toggle("sound", (on) => (pair.source.video.muted = !on));
  toggle("zoom", (on) => {
    find("screen").classList.toggle("exact", on);
    if (on) find("screen").tabIndex = 0;
    else find("screen").removeAttribute("tabindex");
    fit();
  });
  for (const { video } of [pair.source, pair.mask, pair.other])
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, renderPlay);
  new ResizeObserver(fit).observe(find("screen"));
  addEventListener("resize", fit);
}

function toggle(id, act) {
  find(id).addEventListener("click", () => {
    const on = find(id).getAttribute("aria-pressed") !== "true";
    find(id).setAttribute("aria-pressed", String(on));
    act(on);
  });
}

// The largest size that fits; or, at 1:1, one pixel of the clip to one of the screen.
function fit() {
  const { width, height } = find("canvas");
  const screen = find("screen");
  const exact = screen.classList.contains("exact");
  const scale = exact ? 1 / devicePixelRatio : Math.min(screen.clientWidth / width, Math.max(200, room()) / height);
  shownWidth_px = width * scale;
  find("frame").style.width = `${shownWidth_px}px`;
  placeHandle();
  find("frame").style.height = `${height * scale}px`;
  find("canvas").classList.toggle("pixels", exact || scale * devicePixelRatio > 2);
  if (compositor) compositor.settings.line = Math.max(0.7, 1.1 / scale); // pixels of the clip
}

// Beside the panel the player fills the window and nothing of it needs scrolling; above it, it leaves room.
function room() {
  if (innerWidth < 960) return 0.6 * innerHeight;
  const above = find("screen").getBoundingClientRect().top + scrollY;
  return innerHeight - above - find("transport").offsetHeight - 24;
}

function togglePlay() {
  if (pair.playing) pair.pause();
  else pair.play();
  renderPlay();
}

function renderPlay() {
  find("play").setAttribute("aria-label", pair.playing ? "Pause" : "Play");
  find("play").classList.toggle("playing", pair.playing);
}

function onKey(event) {
  if (find("transport").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea") && !event.target.matches("[type=radio], [type=checkbox]")) return;
  const keys = {
    ",": () => step(-1),
    ".": () => step(1),
    k: togglePlay,
    l: () => find("loop").click(),
    m: () => find("sound").click(),
    z: () => find("zoom").click(),
    w: () => find("wipe-on").click(),
    h: () => find("mark").hidden || find("mark").click(),
    i: () => find("trim-here").hidden || find("trim-here").click(),
    o: () => find("trim-to-here").hidden || find("trim-to-here").click(),
  };
  if (!event.target.matches("button, input")) keys[" "] = togglePlay;
  const act = keys[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
}
