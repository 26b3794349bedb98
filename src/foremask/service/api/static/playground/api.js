// Calls to the service that served this page, and its refusals.
import { find, make, show, toast } from "./dom.js";
import { token } from "./held-token.js";

export class Refusal extends Error {
  // `told` is the body's error object: code, reason, details, and param where a field is at fault.
  constructor(told, requestId) {
    super(told.details);
    this.reason = told.reason;
    this.code = told.code;
    this.param = told.param;
    this.limit = told.limit;
    this.actual = told.actual;
    this.requestId = requestId;
  }
}

const AWAY = { code: 0, reason: "", details: "The service does not answer. Is it still running?" };

// Whatever host a link of the service names, it is this one: the page may be open under another name.
export function here(link) {
  const url = new URL(link, location.href);
  return /^\/v2\/(files|uploads|status|jobs)\b/.test(url.pathname) ? url.pathname + url.search : url.href;
}

export async function ask(method, path, body, signal, more = {}) {
  const headers = { api_token: token(), ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    sayOffline(true);
    throw new Refusal(AWAY);
  }
  sayOffline(false);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refusal(told.error ?? { ...AWAY, code: answer.status, details: `The service answered ${answer.status}.` }, told.request_id);
}

addEventListener("online", () => sayOffline(false));

// Above everything while calls do not arrive; whatever runs on the service goes on.
export function sayOffline(away) {
  const line = find("offline");
  if (line.hidden !== away) return;
  line.textContent = navigator.onLine
    ? "The service does not answer. Your jobs are kept; this page tries again by itself."
    : "This computer is offline. Your jobs go on; this page tries again by itself.";
  show(line, away);
}

export async function askJson(method, path, body, signal) {
  return (await ask(method, path, body, signal)).json();
}

// What the page's own jobs are known by, among those that programs order with the same token.
export const OURS = "page-";

// Orders a job by a key of the page's: answers its id.
export async function order(path, body) {
  const words = crypto.getRandomValues(new Uint32Array(4));
  const key = OURS + [...words].map((each) => each.toString(36)).join("");
  return (await (await ask("POST", path, body, undefined, { "Idempotency-Key": key })).json()).request_id;
}

export const submission = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== "" && !(Array.isArray(value) && !value.length)));

// Sends the file by a form of the service's; answers the URL by which a job finds it.
export async function upload(file, onProgress, signal) {
  const media = /^(video|image)\//.test(file.type) ? file.type.split(";")[0].toLowerCase() : "video/unknown";
  const { result } = await askJson("POST", "/v2/video/upload", { media_type: media }, signal);
  const form = new FormData();
  for (const [name, value] of Object.entries(result.upload_fields)) form.append(name, value);
  form.append("file", new Blob([file], { type: media }), file.name ?? "clip");
  await send(here(result.upload_url), form, onProgress, signal);
  return result.file_url;
}

function send(path, form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
    request.open("POST", path);
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => (request.status === 204 ? resolve() : reject(new Refusal(request.response?.error ?? AWAY)));
    request.onerror = () => reject(new Refusal(AWAY));
    signal.addEventListener("abort", () => {
      request.abort();
      reject(new DOMException("another clip", "AbortError"));
    });
    request.send(form);
  });
}

// Where the reason is explained, and a way out that the service's sentence does not have.
const WAYS_OUT = {
  url_private: "The service fetches from public addresses only; its operator can allow others with FOREMASK_ALLOW_PRIVATE.",
  webhook_invalid: "For a receiver of your own network, the operator sets FOREMASK_ALLOW_PRIVATE.",
  container_unsupported: "Most files change container without loss: `ffmpeg -i clip.mkv -c copy clip.mp4`. A service of your own takes all with FOREMASK_INPUTS=all.",
  codec_unsupported: "Encode it anew: `ffmpeg -i clip.mov -c:v libx264 -crf 16 clip.mp4`",
  video_invalid: "Paste the whole address of a file: it begins with https.",
  not_a_video: "Paste the address of the video file itself, not of the page that plays it.",
  token_invalid: "Look for missing characters, or make a new one: `foremask token create`",
  url_unreachable: "Or download the clip and drop the file here.",
  url_forbidden: "Download the clip and drop the file here, or use a signed link.",
  cancelled: "The clip can be masked again at any time.",
  result_expired: "Give the clip again to have a new mask.",
  corrupt: "If it plays elsewhere, write it anew: `ffmpeg -i clip.mp4 -c:v libx264 -crf 16 whole.mp4`",
};

function wayOutOf(error, field) {
  if (/is a picture/.test(error.message)) return "Save it and drop it here: the page cuts pictures out.";
  if (/has no moov box/.test(error.message)) return "Copy or export it once more: FFmpeg cannot mend it. A camera may finish it when its card is put back.";
  if (error.reason === "not_a_video" && field?.id === "file") return "Choose a video or a picture.";
  return WAYS_OUT[error.reason];
}

// The sentence, a way out, and a link to what the reason means.
/** @returns {(string | Node)[]} */
function wordsOf(error, field) {
  const out = wayOutOf(error, field);
  const words = [/[.!?…]$/.test(error.message) ? error.message : `${error.message}.`];
  if (out) words.push(" ", make("span", { className: "out" }, ...out.split("`").map((part, at) => (at % 2 ? make("code", { textContent: part, tabIndex: 0 }) : part))));
  if (error.reason) words.push(" ", make("a", { href: `/reference#reason-${error.reason}`, textContent: error.reason, title: "What this reason means" }));
  return words;
}

// An error that belongs to no field, above the page.
export function complain(error, note = toast()) {
  note.fail(wordsOf(error));
}

export function explain(place, error, field) {
  place.replaceChildren(...wordsOf(error, field));
  place.hidden = false;
  field?.setAttribute("aria-invalid", "true");
}

export function clear(place, field) {
  place.hidden = true;
  place.replaceChildren();
  field?.removeAttribute("aria-invalid");
}
