// What plays before there is a clip: rendered scenes with the masks that foremask made of them.
import { find, prefersStill, radios, show } from "./dom.js";
import { SAMPLES } from "./sample-scores.js";
import { setWipe, showMask, showSource, wipePosition } from "./stage.js";

const SWING_MS = 5200;
let chosen = SAMPLES[0];
let swinging = 0;

export const sampleUrl = () => `/static/samples/${chosen.name}.webm`;
export const sampleShown = () => !find("samples").hidden;

// `onTake(file)` gets the sample as if it had been dropped.
export function setUpSamples(onTake) {
  radios(find("sample-choice"), "sample", SAMPLES.map(({ name, label }) => ({ value: name, label })), chosen.name, (name) => {
    chosen = SAMPLES.find((each) => each.name === name);
    play();
  });
  find("sample").addEventListener("click", async () => {
    const blob = await (await fetch(sampleUrl())).blob();
    onTake(new File([blob], `${chosen.name}.webm`, { type: "video/webm" }));
  });
  for (const name of ["pointerdown", "keydown"]) find("frame").addEventListener(name, () => (swinging = 0), true);
}

export async function showSamples() {
  show(find("samples"));
  await play();
}

export function hideSamples() {
  swinging = 0;
  show(find("samples"), false);
}

async function play() {
  const { name, label, fps, frames, iou, mad } = chosen;
  const facts = { fps, frames, duration_s: frames / fps, codec: "vp9" };
  find("sample-said").textContent =
    `The mask is foremask’s own. It overlaps the exact one by ${(100 * iou).toFixed(1)} % (IoU) and differs from it by ${(100 * mad).toFixed(1)} % on average.`;
  const still = prefersStill();
  await showSource(sampleUrl(), facts, label);
  if (!sampleShown()) return;
  await showMask(`/static/samples/${name}-mask.webm`, facts, undefined, !still);
  if (!sampleShown()) return hideSamples();
  if (!still) swing();
}

// The wipe moves to and fro until somebody takes hold of it.
function swing() {
  const mine = (swinging = performance.now());
  const move = (now) => {
    if (swinging !== mine) return;
    setWipe(0.5 - 0.32 * Math.cos(((now - mine) / SWING_MS) * 2 * Math.PI), true);
    requestAnimationFrame(move);
  };
  setWipe(wipePosition());
  requestAnimationFrame(move);
}
