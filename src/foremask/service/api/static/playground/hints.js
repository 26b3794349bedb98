// Marks that say which thing is the subject: points and boxes on frames, and what their frame's mask will be.
import { askJson, complain } from "./api.js";
import { quality } from "./choices.js";
import { find, make, percent, radios, show } from "./dom.js";
import { keepMarks, marksOf } from "./memory.js";
import { canMark, goTo, pauseHere, reached, setMarking, setPreview, shownFrame, takeFrame } from "./stage.js";

const MOST = 64; // as the service takes
const PICTURE_PX = 1024; // the network sees no more
const ROUSE_PX = 64;
const REST_MS = 300; // a frame that is looked at so long may be marked
const IDLE_MS = 1000; // whoever masks a dropped clip at once has both cores for that
const DRAG_PX = 6; // less is a click
const STEP_PX = 10; // of the crosshair; with Shift, 1
const COVERS = 127;

// In the order in which they were made. `applied`: the job that is shown has been made with it.
let marks = [];
let undone = false; // a mark was taken away that the job that is shown was made with
let drag = null;
let asked = new AbortController();
let busy = null; // the mark whose preview is on its way
let warm = null; // a promise: the service has inferred the frame `warmed`, and a mark there costs only what is new
let warmed = -1;
let resting = 0;
let rousing = 0;
let roused = false;
const cross = { x: 0, y: 0 };
/** @type {(marks: object[], anew: boolean) => Promise<void>} */
let apply = async () => {};
let tell = () => {};

// `onApply(hints, anew)` masks the clip with them: anew, or by these alone after those that its job has had already.
export function setUpHints(onApply, onChange) {
  apply = onApply;
  tell = onChange;
  radios(find("mark-choice"), "mark-as", [{ value: "this", label: "This" }, { value: "not", label: "Not this" }], "this", () => {});
  find("mark").addEventListener("click", () => setOn(find("mark").getAttribute("aria-pressed") !== "true"));
  for (const name of ["pointerenter", "focus"]) find("mark").addEventListener(name, warmUp);
  find("mark-undo").addEventListener("click", undo);
  find("mark-clear").addEventListener("click", () => replaceBy([]));
  find("mark-apply").addEventListener("click", sendAll);
  const board = find("marks");
  board.addEventListener("contextmenu", (event) => event.preventDefault());
  board.addEventListener("pointerdown", begin);
  board.addEventListener("pointermove", move);
  board.addEventListener("pointerup", finish);
  board.addEventListener("pointercancel", () => endDrag());
  board.addEventListener("keydown", onKey);
}

// The marks as a body's `hints`.
export const hintFields = () => marks.map(hintOf);

const hintOf = ({ type, x, y, width, height, negative, frame }) => ({
  type, x, y, ...(type === "box" ? { width, height } : {}), ...(negative ? { negative } : {}), frame,
});

// The marks of the job that is shown now, as far as this browser knows them; of none, there are none.
export function showMarksOf(id) {
  replaceAll(id ? (marksOf(id) ?? []).map((mark) => ({ ...mark, applied: true })) : []);
}

// A job was started with all marks: they are its own now.
export function marksBecame(id) {
  for (const mark of marks) mark.applied = true;
  undone = false;
  if (marks.length) keepMarks(id, marks);
  asked.abort();
  render();
}

// `can` says whether there is a clip to mark; `result`, whether it has a mask that can be corrected.
export function offerMarks(can, result) {
  show(find("mark"), can && canMark());
  show(find("mark-apply"), result);
  clearTimeout(rousing);
  if (find("mark").hidden) setOn(false);
  else if (!roused && find("job").hidden) rousing = setTimeout(rouse, IDLE_MS);
}

// A clip is looked at, and may be marked: a tiny picture loads all that the service needs for it, once.
function rouse() {
  roused = true;
  lookAt(shownFrame(), ROUSE_PX, "fast").catch(() => (roused = false));
}

function setOn(on) {
  if (on === (find("mark").getAttribute("aria-pressed") === "true")) return;
  find("mark").setAttribute("aria-pressed", String(on));
  show(find("mark-bar"), on);
  show(find("marks"), on);
  setMarking(on, render);
  clearTimeout(resting);
  if (!on) return say("");
  const { width, height } = find("canvas");
  Object.assign(cross, { x: Math.round(width / 2), y: Math.round(height / 2) });
  say(MANUAL);
  warmUp();
  render();
  find("marks").focus({ preventScroll: true });
  if (innerWidth < 960) find("stage").scrollIntoView({ block: "start" });
}

// The service looks at the frame before anybody clicks: loading the network and the first inference take seconds.
function warmUp() {
  if (shownFrame() === warmed) return;
  warmed = shownFrame();
  clearTimeout(rousing);
  roused = true;
  warm = lookAt(warmed).catch(() => (warmed = -1));
}

// A point in the middle: marks elsewhere on the frame find most of their inferences done.
async function lookAt(frame, most_px = PICTURE_PX, asked = quality()) {
  if (!(await reached(frame))) return;
  const { url: picture, scale } = takeFrame(most_px);
  const { width, height } = find("canvas");
  const hints = [{ type: "point", x: (width * scale) / 2, y: (height * scale) / 2 }];
  await askJson("POST", "/v2/video/segment/preview", { picture, hints, quality: asked });
}

const MANUAL = matchMedia("(hover: none)").matches
  ? "Tap the subject, or drag a box round it. For what it is not, choose Not this first."
  : "Click the subject, or drag a box round it. With Alt or the right button: not this.";

// Where the pointer is, in pixels of the clip.
function placeOf(event) {
  const box = find("canvas").getBoundingClientRect();
  const { width, height } = find("canvas");
  const within = (value, most) => Math.min(most - 1, Math.max(0, Math.floor(value * most)));
  return { x: within((event.clientX - box.left) / box.width, width), y: within((event.clientY - box.top) / box.height, height) };
}

function begin(event) {
  if (event.button !== 0 && event.button !== 2) return;
  pauseHere();
  find("marks").setPointerCapture(event.pointerId);
  const negative = event.button === 2 || event.altKey || find("mark-as-not").checked;
  drag = { negative, from: placeOf(event), at: [event.clientX, event.clientY], box: null };
}

function move(event) {
  if (!drag) return;
  if (Math.hypot(event.clientX - drag.at[0], event.clientY - drag.at[1]) < DRAG_PX && !drag.box) return;
  const to = placeOf(event);
  const { from, negative } = drag;
  const box = { x: Math.min(from.x, to.x), y: Math.min(from.y, to.y), width: Math.abs(to.x - from.x) + 1, height: Math.abs(to.y - from.y) + 1 };
  drag.box = { type: "box", ...box, negative, frame: shownFrame() };
  render();
}

function finish() {
  if (!drag) return;
  const { from, negative, box } = drag;
  endDrag();
  add(box ?? { type: "point", ...from, negative, frame: shownFrame() });
}

function endDrag() {
  drag = null;
  render();
}

function onKey(event) {
  const step = event.shiftKey ? 1 : STEP_PX;
  const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  const { width, height } = find("canvas");
  if (by) {
    cross.x = Math.min(width - 1, Math.max(0, cross.x + by[0]));
    cross.y = Math.min(height - 1, Math.max(0, cross.y + by[1]));
    say(`${cross.x}, ${cross.y} of ${width} by ${height}`);
    render();
  } else if (event.key === "Enter") {
    pauseHere();
    add({ type: "point", ...cross, negative: event.altKey || find("mark-as-not").checked, frame: shownFrame() });
  } else if (event.key === "Backspace" || event.key === "Delete") undo();
  else if (event.key === "Escape") {
    setOn(false);
    find("mark").focus();
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function add(mark) {
  if (marks.length === MOST) return say(`At most ${MOST} marks are taken.`);
  marks.push({ ...mark, applied: false });
  changed(mark.frame);
}

function undo() {
  const last = marks.pop();
  if (!last) return;
  undone ||= last.applied;
  goTo(last.frame);
  say("The last mark is gone.");
  changed(last.frame);
}

function replaceBy(others) {
  undone ||= marks.some((mark) => mark.applied && !others.includes(mark));
  marks = others;
  setPreview();
  say("All marks are gone.");
  changed(null);
}

function replaceAll(others) {
  asked.abort();
  busy = null;
  marks = others;
  undone = false;
  warmed = -1;
  setPreview();
  render();
}

function changed(frame) {
  asked.abort();
  busy = null;
  render();
  tell();
  if (frame === null) return;
  if (marks.some((mark) => mark.frame === frame)) preview(frame);
  else setPreview(frame, null);
}

// What the frame's mask will be, by its own marks.
async function preview(frame) {
  asked = new AbortController();
  const { signal } = asked;
  const [last] = marks.filter((mark) => mark.frame === frame).slice(-1);
  busy = last;
  say(`${nameOf(last)}: looking …`);
  render();
  await warm;
  const there = await reached(frame);
  if (signal.aborted) return;
  if (!there) return endWait(`Frame ${frame + 1} does not show. The mark is kept; its preview comes with another mark there.`);
  const picture = takeFrame(PICTURE_PX);
  const scaled = (value) => value * picture.scale;
  const hints = marks.filter((mark) => mark.frame === frame).map((mark) => {
    const hint = hintOf(mark);
    for (const name of ["x", "y", "width", "height"]) if (name in hint) hint[name] = scaled(hint[name]);
    return hint;
  });
  try {
    const { result } = await askJson("POST", "/v2/video/segment/preview", { picture: picture.url, hints, quality: quality() }, signal);
    const image = Object.assign(new Image(), { src: `data:image/png;base64,${result.mask}` });
    await image.decode();
    if (signal.aborted) return;
    const { share, white } = measure(image, scaled(last.x + (last.width ?? 0) / 2), scaled(last.y + (last.height ?? 0) / 2));
    warmed = frame;
    setPreview(frame, image);
    endWait(`${nameOf(last)}, frame ${frame + 1}: ${white ? "in the mask" : "not in the mask"}; ${percent(share)} of the frame is foreground.`);
  } catch (error) {
    if (signal.aborted) return; // a newer mark asks anew
    endWait(`${nameOf(last)}, frame ${frame + 1}.`);
    complain(error);
  }
}

function endWait(text) {
  busy = null;
  say(text);
  render();
}

// How much of a mask is white, and whether it is so at a place.
function measure(image, x, y) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const pen = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const { data } = pen.getImageData(0, 0, width, height);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum += data[at];
  const white = data[4 * (Math.min(height - 1, Math.floor(y)) * width + Math.min(width - 1, Math.floor(x)))] > COVERS;
  return { share: sum / 255 / (width * height), white };
}

async function sendAll() {
  find("mark-apply").disabled = true;
  const fresh = marks.filter((mark) => undone || !mark.applied);
  try {
    await apply(fresh.map(hintOf), undone);
  } catch (error) {
    complain(error);
  }
  render();
}

const nameOf = ({ type, negative, x, y }) => `${negative ? "Not this" : "This"}, ${type} at ${x}, ${y}`;

function say(text) {
  find("mark-said").textContent = text;
  show(find("mark-said"), text !== "");
}

// All that is seen of the marks: those of the frame on it, and each as a button that leads to its frame.
function render() {
  const { width, height } = find("canvas");
  const frame = shownFrame();
  clearTimeout(resting);
  if (!find("marks").hidden && frame !== warmed && !busy) resting = setTimeout(warmUp, REST_MS);
  const here = marks.map((mark, index) => ({ ...mark, number: index + 1, waits: mark === busy })).filter((mark) => mark.frame === frame);
  if (drag?.box) here.push({ ...drag.box, number: marks.length + 1 });
  find("marks").replaceChildren(...here.map((mark) => drawn(mark, width, height)), crosshair(width, height));
  find("mark-list").replaceChildren(...marks.map((mark, index) => {
    const button = make("button", { type: "button", className: mark.negative ? "not" : "this", textContent: `${index + 1}: frame ${mark.frame + 1}` });
    button.title = `${nameOf(mark)}; leads to its frame`;
    button.addEventListener("click", () => goTo(mark.frame));
    return make("li", {}, button);
  }));
  for (const id of ["mark-undo", "mark-clear"]) find(id).disabled = marks.length === 0;
  find("mark-apply").disabled = marks.length === 0 ? !undone : !undone && marks.every((mark) => mark.applied);
}

function drawn({ type, negative, x, y, width: wide, height: high, number, waits }, width, height) {
  const mark = make("span", { className: `${type} ${negative ? "not" : "this"} ${waits ? "waits" : ""}`, textContent: type === "point" ? "" : String(number) });
  mark.setAttribute("aria-hidden", "true");
  const centre = type === "point" ? 0.5 : 0;
  Object.assign(mark.style, { left: `${(100 * (x + centre)) / width}%`, top: `${(100 * (y + centre)) / height}%` });
  if (type === "box") Object.assign(mark.style, { width: `${(100 * wide) / width}%`, height: `${(100 * high) / height}%` });
  return mark;
}

function crosshair(width, height) {
  const made = make("span", { className: "cross" });
  made.setAttribute("aria-hidden", "true");
  Object.assign(made.style, { left: `${(100 * (cross.x + 0.5)) / width}%`, top: `${(100 * (cross.y + 0.5)) / height}%` });
  return made;
}
