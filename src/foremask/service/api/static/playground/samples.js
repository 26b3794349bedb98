// What plays before there is a clip: three clips, and the masks that foremask makes of them (../samples/NOTICE).
import { setColour } from "./backing.js";
import { find, make, radios, show } from "./dom.js";
import { describe, moves, showMask, showSource, sweep } from "./stage.js";

const SAMPLES = [
  { name: "bird", label: "Bird", fps: 30, frames: 33, behind: "#f2b134", from: "Big Buck Bunny, © Blender Foundation, CC BY 3.0" },
  { name: "person", label: "Person", fps: 30, frames: 60, behind: "#2563c9", from: "Sign language, © Intel, CC BY 4.0" },
  { name: "flower", label: "Flower", fps: 15, frames: 55, behind: "#1d6f78", from: "Flower, MDN, CC0" },
];
let chosen = SAMPLES[0];

const url = (name) => `/static/samples/${name}`;
export const sampleShown = () => !find("samples").hidden;

// `onTake(file)` gets the sample as if it had been dropped.
export function setUpSamples(onTake) {
  radios(find("sample-choice"), "sample", SAMPLES.map(({ name, label }) => ({ value: name, label })), chosen.name, (name) => {
    chosen = SAMPLES.find((each) => each.name === name);
    play();
  });
  for (const { name } of SAMPLES)
    find(`sample-${name}`).before(make("img", { src: url(`${name}.webp`), alt: "", width: 240, height: 135 }));
  find("sample").addEventListener("click", async () => {
    const blob = await (await fetch(url(`${chosen.name}.webm`))).blob();
    onTake(new File([blob], `${chosen.name}.webm`, { type: "video/webm" }));
  });
}

export async function showSamples() {
  show(find("samples"));
  await play();
}

export function hideSamples() {
  show(find("samples"), false);
}

async function play() {
  const { name, label, fps, frames, behind, from } = chosen;
  const facts = { fps, duration_s: frames / fps, codec: "vp9" };
  const wanted = () => sampleShown() && chosen.name === name;
  find("sample-said").textContent = from;
  setColour(behind);
  await showSource(url(`${name}.webm`), facts, label);
  if (!wanted()) return;
  await showMask(url(`${name}-mask.webm`), facts, undefined, { playing: moves(), wipe: true });
  if (!wanted()) return;
  describe(facts, { frames_out: frames });
  if (moves()) sweep();
}
