// The camera, masked live: frames go over a WebSocket as JPEGs, their masks come back (docs/live.md).
import { find, radios, show } from "./dom.js";
import { token } from "./held-token.js";
import { needToken } from "./token.js";

const HEADER_BYTES = 24;
const MAGIC = 0x42524941; // BRIA
const KIND = 0x03010101; // version 3, remove background, video, JPEG
const LONGEST_PX = 854; // frames are sent no larger
const MOST_IN_FLIGHT = 12;
const GIVEN_UP_MS = 3000; // a frame without a mask by then was dropped
const JPEG_QUALITY = 0.7;
const SAID_EVERY_MS = 1000;
const ROOM_PX = 48; // the width to which the room behind is made smaller, to blur it
const BEHIND = [
  { value: "colour", label: "Colour" },
  { value: "picture", label: "Picture" },
  { value: "blur", label: "Blur" },
  { value: "nothing", label: "Nothing" },
];

const view = { behind: "colour", picture: null };
let session = null;

export function setUpCamera() {
  radios(find("mode-choice"), "mode", [{ value: "clip", label: "Clip" }, { value: "camera", label: "Camera" }], "clip", (mode) => showMode(mode));
  radios(find("camera-behind"), "camera-behind", BEHIND, view.behind, chooseBehind);
  find("camera-start").addEventListener("click", () => (session ? stop("The camera is off.") : start()));
  find("camera-which").addEventListener("change", () => session && restart());
  find("camera-record").addEventListener("click", () => (session?.recorder ? session.recorder.stop() : record()));
  find("camera-picture").addEventListener("change", takePicture);
  if (location.hash === "#camera") {
    find("mode-camera").checked = true;
    showMode("camera");
  }
}

function showMode(mode) {
  document.documentElement.dataset.mode = mode;
  show(find("camera"), mode === "camera");
  history.replaceState(null, "", location.pathname + location.search + (mode === "camera" ? "#camera" : ""));
  if (mode !== "camera" && session) stop("");
  if (mode === "camera" && !navigator.mediaDevices) {
    find("camera-start").disabled = true;
    fail("A browser gives its camera only to pages of this machine or over HTTPS: open http://127.0.0.1 here, or put foremask behind HTTPS.");
  }
}

function chooseBehind(kind) {
  view.behind = kind;
  show(find("camera-colour"), kind === "colour");
  show(find("camera-choose"), kind === "picture");
}

async function takePicture() {
  const [file] = find("camera-picture").files;
  if (!file) return;
  try {
    view.picture = await createImageBitmap(file);
  } catch {
    fail("This browser cannot read this picture.");
  }
}

function fail(sentence) {
  find("camera-error").textContent = sentence;
  show(find("camera-error"), Boolean(sentence));
}

const REFUSALS = {
  NotAllowedError: "The camera is not allowed here. Allow it beside the address, and press Start again.",
  NotFoundError: "This machine has no camera, or the browser does not see it.",
  NotReadableError: "Another program uses the camera. Close it there, and press Start again.",
};

async function start() {
  fail("");
  await needToken();
  const chosen = find("camera-which").value;
  const size = { width: { ideal: LONGEST_PX }, height: { ideal: 480 }, frameRate: { ideal: 24, max: 30 } };
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ video: chosen ? { ...size, deviceId: { exact: chosen } } : { ...size, facingMode: "user" } });
  } catch (error) {
    return fail(REFUSALS[error.name] ?? `The camera cannot be opened: ${error.message}`);
  }
  const video = Object.assign(document.createElement("video"), { srcObject: media, muted: true, playsInline: true });
  await video.play();
  const address = new URL("/", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("api_token", token());
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  session = { media, video, socket, next: 0, waiting: new Map(), masks: 0, late: [], saidAt: performance.now(), drawn: -1, busy: false, recorder: null, timer: 0, reason: "" };
  const ours = session;
  const ends = () => session === ours && stop("The camera is off.");
  media.getVideoTracks()[0].addEventListener("ended", ends);
  socket.addEventListener("open", () => next(ours));
  socket.addEventListener("message", ({ data }) => (typeof data === "string" ? hear(ours, data) : takeMask(ours, data)));
  socket.addEventListener("close", ({ code, reason }) => {
    if (session !== ours) return;
    const said = ours.reason || reason || "The service does not answer. Is it still running?";
    stop("The camera is off.");
    if (code !== 1000) fail(said);
  });
  ours.timer = setInterval(() => report(ours), SAID_EVERY_MS);
  find("camera-start").textContent = "Stop";
  find("camera-said").textContent = "The camera is on; the first mask takes a moment.";
  await offerCameras(media);
}

// Their names are known once a camera was allowed.
async function offerCameras(media) {
  const all = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const used = media.getVideoTracks()[0].getSettings().deviceId;
  const list = find("camera-which");
  list.replaceChildren(...all.map(({ deviceId, label }, number) => new Option(label || `Camera ${number + 1}`, deviceId, false, deviceId === used)));
  show(list, all.length > 1);
}

async function restart() {
  stop("");
  await start();
}

function stop(said) {
  const { media, socket, recorder, timer } = session;
  session = null;
  clearInterval(timer);
  if (recorder) recorder.stop();
  for (const track of media.getTracks()) track.stop();
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "stop" }));
  socket.close();
  find("camera-start").textContent = "Start the camera";
  find("camera-said").textContent = said;
  find("camera-facts").textContent = "";
  find("camera-record").disabled = true;
}

function hear(ours, text) {
  const told = JSON.parse(text);
  if (told.type === "error") ours.reason = told.message;
}

// Sends each new frame of the camera, as long as few are on their way.
function next(ours) {
  if (session !== ours) return;
  send(ours).catch(() => {});
  if (ours.video.requestVideoFrameCallback && !document.hidden) ours.video.requestVideoFrameCallback(() => next(ours));
  else setTimeout(() => next(ours), 1000 / 24);
}

async function send(ours) {
  const now = performance.now();
  for (const [id, { at, picture }] of ours.waiting)
    if (now - at > GIVEN_UP_MS) {
      ours.waiting.delete(id);
      picture.close();
    }
  const { videoWidth: width, videoHeight: height } = ours.video;
  if (ours.busy || !width || ours.waiting.size >= MOST_IN_FLIGHT || ours.socket.readyState !== WebSocket.OPEN) return;
  ours.busy = true;
  try {
    const scale = Math.min(1, LONGEST_PX / Math.max(width, height));
    const canvas = sized(sending, Math.round(width * scale), Math.round(height * scale));
    canvas.getContext("2d").drawImage(ours.video, 0, 0, canvas.width, canvas.height);
    const [picture, jpeg] = await Promise.all([createImageBitmap(canvas), new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY))]);
    const bytes = await /** @type {Blob} */ (jpeg).arrayBuffer();
    if (session !== ours) return picture.close();
    const id = ours.next++;
    const message = new Uint8Array(HEADER_BYTES + bytes.byteLength);
    const header = new DataView(message.buffer);
    header.setUint32(0, MAGIC);
    header.setUint32(4, KIND);
    header.setBigUint64(8, BigInt(id));
    header.setBigInt64(16, BigInt(Math.round(1000 * now)));
    message.set(new Uint8Array(bytes), HEADER_BYTES);
    ours.waiting.set(id, { at: now, picture });
    ours.socket.send(message);
  } finally {
    ours.busy = false;
  }
}

async function takeMask(ours, data) {
  const id = Number(new DataView(data).getBigUint64(8));
  const mask = await createImageBitmap(new Blob([data.slice(HEADER_BYTES)], { type: "image/jpeg" }));
  const frame = ours.waiting.get(id);
  for (const [other, { picture }] of ours.waiting)
    if (other < id) {
      ours.waiting.delete(other); // frames before it were dropped
      picture.close();
    }
  if (!frame || session !== ours || id < ours.drawn) return mask.close();
  ours.waiting.delete(id);
  ours.drawn = id;
  ours.masks++;
  ours.late.push(performance.now() - frame.at);
  draw(frame.picture, mask);
  show(find("camera-canvas"));
  show(find("camera-empty"), false);
  frame.picture.close();
  mask.close();
  find("camera-record").disabled = !canRecord();
}

const sending = document.createElement("canvas");
const alpha = document.createElement("canvas");
const room = document.createElement("canvas");

function sized(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return canvas;
}

// Draws the subject over what is chosen; the mask's level becomes its alpha.
function draw(picture, mask) {
  const { width, height } = picture;
  const cutter = sized(alpha, width, height).getContext("2d", { willReadFrequently: true });
  cutter.globalCompositeOperation = "copy";
  cutter.drawImage(mask, 0, 0, width, height);
  const pixels = cutter.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
  cutter.putImageData(pixels, 0, 0);
  const pen = sized(find("camera-canvas"), width, height).getContext("2d");
  pen.globalCompositeOperation = "copy";
  pen.drawImage(picture, 0, 0);
  pen.globalCompositeOperation = "destination-in";
  pen.drawImage(alpha, 0, 0);
  pen.globalCompositeOperation = "destination-over";
  if (view.behind === "colour" || (view.behind === "picture" && !view.picture)) {
    pen.fillStyle = find("camera-colour").value;
    pen.fillRect(0, 0, width, height);
  } else if (view.behind === "picture") cover(pen, view.picture, width, height);
  else if (view.behind === "blur") {
    const small = sized(room, ROOM_PX, Math.max(1, Math.round((ROOM_PX * height) / width)));
    const brush = small.getContext("2d");
    brush.drawImage(picture, 0, 0, small.width, small.height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(small, 0, 0, width, height);
  }
}

function cover(pen, picture, width, height) {
  const scale = Math.max(width / picture.width, height / picture.height);
  const [wide, high] = [width / scale, height / scale];
  pen.drawImage(picture, (picture.width - wide) / 2, (picture.height - high) / 2, wide, high, 0, 0, width, height);
}

function report(ours) {
  const now = performance.now();
  const rate = (1000 * ours.masks) / (now - ours.saidAt);
  const late = ours.late.sort((a, b) => a - b)[ours.late.length >> 1];
  if (ours.masks && find("camera-said").textContent.includes("first mask")) find("camera-said").textContent = "The camera is on.";
  if (ours.masks) find("camera-facts").textContent = `${Math.round(rate)} frames a second, ${(late / 1000).toFixed(2)} s late`;
  else if (ours.drawn >= 0) find("camera-facts").textContent = "No mask has come in the last second";
  Object.assign(ours, { masks: 0, late: [], saidAt: now });
}

const FORMS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8"]; // both keep alpha
const canRecord = () => typeof MediaRecorder === "function" && FORMS.some((each) => MediaRecorder.isTypeSupported(each));

function record() {
  const form = FORMS.find((each) => MediaRecorder.isTypeSupported(each));
  const recorder = new MediaRecorder(find("camera-canvas").captureStream(), { mimeType: form, videoBitsPerSecond: 6_000_000 });
  const parts = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  recorder.addEventListener("stop", () => {
    if (session) session.recorder = null;
    find("camera-record").textContent = "Record";
    find("camera-record").setAttribute("aria-pressed", "false");
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob(parts, { type: "video/webm" })), download: "camera.webm" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
  recorder.start(1000);
  session.recorder = recorder;
  find("camera-record").textContent = "Stop recording";
  find("camera-record").setAttribute("aria-pressed", "true");
}
