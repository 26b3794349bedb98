// Marks that say which thing is the subject: points, boxes and strokes on frames, and a preview of each frame with them.
import { askJson, complain } from "./api.js";
import { drawStrokes, goOn, paintOf, strokeAt } from "./brush.js";
import { quality } from "./choices.js";
import { find, make, percent, radios, show } from "./dom.js";
import { keepMarks, marksOf } from "./memory.js";
import { canMark, goTo, pauseHere, reached, setMarking, setPreview, shownFrame, takeFrame, takeMask } from "./stage.js";

const MOST = 64; // as the service takes
const MOST_SHOWN = 16; // as a preview takes
const PICTURE_PX = 1024; // the network sees no more
const ROUSE_PX = 64;
const REST_MS = 300; // a frame that is looked at so long may be marked
const LATE_MS = 4000; // a look that takes so long is explained
const IDLE_MS = 1000; // whoever masks a dropped clip at once has both cores for that
const TOOLS = [{ value: "point", label: "Point" }, { value: "box", label: "Box" }, { value: "brush", label: "Brush" }];
const SIDES = [{ value: "in", label: "In" }, { value: "out", label: "Out" }];
const LEAST_BOX_PX = 4;
const STEP_PX = 10; // of the crosshair; with Shift, 1
const COVERS = 127;

// In the order in which they were made. `applied`: the job that is shown has been made with it.
let marks = [];
let outside = []; // the marks that were not in the part, since the clip is the part alone
const part = { first: 0, end: Infinity }; // its first frame, and the one after its last
let undone = false; // a mark was taken away that the job that is shown was made with
let tool = "point";
let drag = null; // what is drawn just now: a box or a stroke
let corner = null; // of a box that is drawn by keys
let asked = new AbortController();
const unseen = new Set(); // the frames whose preview has failed
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
  radios(find("mark-tools"), "mark-tool", TOOLS, tool, choose);
  radios(find("mark-sides"), "mark-side", SIDES, "in", () => say(manual()));
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

// The marks as a body's `hints`: those in the part of the clip, counted from its start.
export const hintFields = () => hintsOf(marks.filter(isInPart).map((mark) => ({ ...mark, frame: mark.frame - part.first })));

const isInPart = ({ frame }) => frame >= part.first && frame < part.end;

// The part that will be masked: marks outside of it do not count. Answers how many these are.
export function keepMarksWithin([first, end]) {
  Object.assign(part, { first, end });
  renderList();
  return marks.filter((mark) => !isInPart(mark)).length;
}

// From now on the clip is its part alone.
export function countMarksFromPart() {
  outside = marks.filter((mark) => !isInPart(mark));
  countAnew(marks.filter(isInPart), -part.first);
}

// The clip is whole again, and its part begins with the frame `first`.
export function countMarksFromClip(first) {
  const others = outside;
  countAnew(marks, first);
  marks.unshift(...others);
  outside = [];
  render();
}

function countAnew(those, by) {
  marks = those.map((mark) => ({ ...mark, frame: mark.frame + by }));
  Object.assign(part, { first: 0, end: Infinity });
  unseen.clear();
  warmed = -1;
  if (!find("marks").hidden) say(manual());
  render();
}

// Strokes that follow each other on one frame are one paint. Another `scale` is that of a smaller picture.
function hintsOf(list, { width, height } = find("canvas"), scale = 1) {
  const hints = [];
  let strokes = [];
  list.forEach((mark, index) => {
    if (mark.type !== "paint") return hints.push(hintOf(mark, scale));
    strokes.push(mark);
    const next = list[index + 1];
    if (next?.type === "paint" && next.frame === mark.frame) return;
    hints.push(paintOf(strokes, width, height, scale));
    strokes = [];
  });
  return hints;
}

function hintOf({ type, x, y, width, height, negative, frame }, scale) {
  const size = type === "box" ? { width: width * scale, height: height * scale } : {};
  return { type, x: x * scale, y: y * scale, ...size, ...(negative ? { negative } : {}), frame };
}

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
  unseen.clear();
  if (!find("marks").hidden) say(manual());
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
  corner = null;
  say(manual());
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

const TOUCH = matchMedia("(hover: none)").matches;
const WAYS = {
  point: TOUCH ? "Tap the subject" : "Click the subject",
  box: "Drag a box round the subject",
  brush: "Paint over the subject",
};
const WAYS_OUT = {
  point: TOUCH ? "Tap what is not the subject" : "Click what is not the subject",
  box: "Drag a box round what is not the subject",
  brush: "Paint over what is not the subject",
};

function manual() {
  const out = find("mark-side-out").checked;
  const flip = TOUCH ? "" : out ? " With Alt or the right button: in." : " With Alt or the right button: out.";
  return `${(out ? WAYS_OUT : WAYS)[tool]}.${flip}`;
}

function choose(name) {
  tool = name;
  corner = null;
  show(find("mark-size-label"), tool === "brush");
  say(manual());
  render();
}

// In pixels of the clip.
const radius = () => Math.max(1, Math.round((Number(find("mark-size").value) / 200) * find("canvas").height));

// Whether a mark of this event says what the subject is not.
const saysOut = (event) => find("mark-side-out").checked !== (event.button === 2 || event.altKey);

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
  const board = find("marks");
  board.setPointerCapture(event.pointerId);
  const from = placeOf(event);
  const [negative, frame] = [saysOut(event), shownFrame()];
  if (tool === "point") return add({ type: "point", ...from, negative, frame });
  drag = tool === "brush" ? strokeAt(from, radius(), negative, frame) : { ...boxOf(from, from, negative), from };
  render();
}

function boxOf(from, to, negative) {
  const [x, y] = [Math.min(from.x, to.x), Math.min(from.y, to.y)];
  const [width, height] = [Math.abs(to.x - from.x) + 1, Math.abs(to.y - from.y) + 1];
  return { type: "box", x, y, width, height, negative, frame: shownFrame() };
}

function move(event) {
  if (!drag) return;
  const to = placeOf(event);
  if (drag.type === "paint") goOn(drag, to);
  else {
    Object.assign(drag, boxOf(drag.from, to, drag.negative));
    say(`${wordsOf(drag)}: ${drag.width} × ${drag.height} pixels`);
  }
  render();
}

function finish() {
  if (!drag) return;
  const mark = drag;
  endDrag();
  delete mark.from;
  if (mark.type === "box" && Math.max(mark.width, mark.height) < LEAST_BOX_PX) return say("The box is too small: drag from one corner to the other.");
  add(mark);
}

function endDrag() {
  drag = null;
  render();
}

function onKey(event) {
  const step = event.shiftKey ? 1 : STEP_PX;
  const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  const { width, height } = find("canvas");
  const wider = { "[": -1, "]": 1 }[event.key];
  if (by) {
    cross.x = Math.min(width - 1, Math.max(0, cross.x + by[0]));
    cross.y = Math.min(height - 1, Math.max(0, cross.y + by[1]));
    say(`${cross.x}, ${cross.y} of ${width} by ${height}`);
    render();
  } else if (wider) {
    find("mark-size").value = String(Number(find("mark-size").value) + wider);
    say(`The brush is ${2 * radius()} pixels wide.`);
  } else if (event.key === "Enter") {
    pauseHere();
    markAtCross(saysOut(event));
  } else if (event.key === "Backspace" || event.key === "Delete") undo();
  else if (event.key === "Escape" && corner) {
    corner = null;
    say(manual());
  } else if (event.key === "Escape") {
    setOn(false);
    find("mark").focus();
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

// A box needs two corners.
function markAtCross(negative) {
  if (tool === "point") return add({ type: "point", ...cross, negative, frame: shownFrame() });
  if (tool === "brush") return add(strokeAt(cross, radius(), negative, shownFrame()));
  if (corner) {
    add(boxOf(corner, cross, negative));
    corner = null;
    return;
  }
  corner = { ...cross };
  say("One corner of the box is set: Enter at the opposite one.");
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
  unseen.clear();
  undone ||= marks.some((mark) => mark.applied && !others.includes(mark));
  marks = others;
  setPreview();
  say("All marks are gone.");
  changed(null);
}

function replaceAll(others) {
  asked.abort();
  busy = null;
  unseen.clear();
  marks = others;
  outside = [];
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
  if (marks.some((mark) => mark.frame === frame && !isInResult(mark))) preview(frame);
  else {
    unseen.delete(frame);
    setPreview(frame, null);
    render();
  }
}

// Whether the mask that is shown was made with a mark, and with none that has been taken away since.
const isInResult = (mark) => mark.applied && !undone;

// A preview of the frame by its new marks: what they change of the result's mask or, without a result, of the frame's own.
async function preview(frame) {
  asked = new AbortController();
  const { signal } = asked;
  const ours = marks.filter((mark) => mark.frame === frame && !isInResult(mark));
  const last = ours.at(-1);
  busy = last;
  unseen.delete(frame);
  say(`${nameOf(last)}: looking …`);
  setTimeout(() => {
    if (busy === last) say(`${nameOf(last)}: still looking … The first look loads the network, and a clip that is being masked slows it down.`);
  }, LATE_MS);
  render();
  await warm;
  const there = await reached(frame);
  if (signal.aborted) return;
  if (!there) return fail(frame, "the player does not reach this frame.");
  const picture = takeFrame(PICTURE_PX);
  const body = { picture: picture.url, hints: hintsOf(ours, picture, picture.scale).slice(-MOST_SHOWN), quality: quality() };
  const mask = undone ? null : takeMask(PICTURE_PX);
  try {
    const { result } = await askJson("POST", "/v2/video/segment/preview", mask ? { ...body, mask } : body, signal);
    const image = Object.assign(new Image(), { src: `data:image/png;base64,${result.mask}` });
    await image.decode();
    if (signal.aborted) return;
    const middle = middleOf(last);
    const { share, white } = measure(image, middle.x * picture.scale, middle.y * picture.scale);
    warmed = frame;
    setPreview(frame, image);
    endWait(`${nameOf(last)}: ${white ? "in the mask" : "not in the mask"} of this frame's preview; ${percent(share)} is foreground.`);
  } catch (error) {
    if (signal.aborted) return; // a newer mark asks anew
    fail(frame, error.message);
  }
}

function fail(frame, why) {
  unseen.add(frame);
  setPreview(frame, null);
  const again = make("button", { type: "button", textContent: "Try again" });
  again.addEventListener("click", () => {
    find("marks").focus({ preventScroll: true });
    goTo(frame);
    preview(frame);
  });
  endWait(`Your marks on @${frame} are kept, but not masked yet: ${why[0].toLowerCase()}${why.slice(1)} `, again);
}

function endWait(...parts) {
  busy = null;
  say(...parts);
  render();
}

// Where a mark's own middle is, in pixels of the clip.
function middleOf({ type, x, y, width = 0, height = 0, places }) {
  if (type !== "paint") return { x: x + width / 2, y: y + height / 2 };
  const [middleX, middleY] = places[places.length >> 1];
  return { x: middleX, y: middleY };
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
    await apply(hintsOf(fresh), undone);
  } catch (error) {
    complain(error);
  }
  render();
}

const KINDS = { point: "Point", box: "Box", paint: "Brush" };
const wordsOf = ({ type, negative }) => `${KINDS[type]} ${negative ? "out" : "in"}`;

function nameOf(mark) {
  const { x, y } = mark.type === "paint" ? middleOf(mark) : mark;
  return `${wordsOf(mark)} at ${x}, ${y}, @${mark.frame}`;
}

function say(...parts) {
  find("mark-said").replaceChildren(...parts);
  show(find("mark-said"), parts.join("") !== "");
}

// All that is seen of the marks: those of the frame on it, and each as a button that leads to its frame.
function render() {
  const { width, height } = find("canvas");
  const frame = shownFrame();
  clearTimeout(resting);
  if (!find("marks").hidden && frame !== warmed && !busy) resting = setTimeout(warmUp, REST_MS);
  const here = marks.filter((mark) => mark.frame === frame).map((mark) => ({ ...mark, waits: mark === busy }));
  if (drag) here.push({ ...drag, waits: false });
  const strokes = here.filter(({ type }) => type === "paint");
  find("marks").classList.toggle("brush", tool === "brush");
  find("marks").replaceChildren(drawStrokes(strokes, width, height),
    ...here.filter(({ type }) => type !== "paint").map((mark) => drawn(mark, width, height)), crosshair(width, height));
  renderList();
  for (const id of ["mark-undo", "mark-clear"]) find(id).disabled = marks.length === 0;
  find("mark-apply").disabled = marks.length === 0 ? !undone : !undone && marks.every((mark) => mark.applied);
}

function renderList() {
  const list = find("mark-list");
  const before = list.children.length;
  list.replaceChildren(...marks.map((mark) => {
    const failed = unseen.has(mark.frame);
    const why = isInPart(mark) ? failed && ", not masked" : ", outside of the part";
    const text = `${wordsOf(mark).toLowerCase()} @${mark.frame}${why || ""}`;
    const button = make("button", { type: "button", className: mark.negative ? "not" : "this", textContent: text });
    button.title = `${nameOf(mark)}; leads to its frame`;
    button.addEventListener("click", () => goTo(mark.frame));
    return make("li", {}, button);
  }));
  if (marks.length > before) list.scrollLeft = list.scrollWidth;
}

function drawn({ type, negative, x, y, width: wide, height: high, waits }, width, height) {
  const side = negative ? "out" : "in";
  const mark = make("span", { className: `${type} ${negative ? "not" : "this"} ${waits ? "waits" : ""}`, textContent: type === "point" ? "" : `box ${side}` });
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
