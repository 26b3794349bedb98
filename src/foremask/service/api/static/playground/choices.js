// What can be chosen, and what each choice means: docs/media.md and docs/quality.md have the numbers.
import { find, make, radios } from "./dom.js";

export const PRESETS = {
  mp4_h264: { label: "MP4, H.264", plays: 'video/mp4; codecs="avc1.640028"', means: "Opens everywhere, browsers too. 8 bit, nearly lossless." },
  mp4_h265: { label: "MP4, H.265", plays: 'video/mp4; codecs="hvc1.1.6.L120.90"', means: "As H.264 and smaller; needs a newer player." },
  webm_vp9: { label: "WebM, VP9", plays: 'video/webm; codecs="vp9"', means: "For the web. Sound becomes Opus; times within 1 ms." },
  mov_h265: { label: "QuickTime, H.265", plays: 'video/mp4; codecs="hvc1.1.6.L120.90"', means: "For Final Cut and Apple devices." },
  mov_proresks: { label: "QuickTime, ProRes", plays: "", means: "10 bit, every frame by itself: for editing and compositing. Large." },
  mkv_h264: { label: "Matroska, H.264", plays: "", means: "Keeps any sound as it is; times within 1 ms." },
  mkv_h265: { label: "Matroska, H.265", plays: "", means: "As above, and smaller." },
  mkv_vp9: { label: "Matroska, VP9", plays: "", means: "As above, free of patents." },
  gif: { label: "GIF", plays: "", means: "256 greys without loss, times within 10 ms, no sound. Large." },
};

// Cut-outs by what one does with them.
export const USES = [
  { label: "Cut-out for the web", form: "webm_vp9", means: "WebM with alpha" },
  { label: "Premiere, Resolve, After Effects", form: "mov_proresks", means: "ProRes 4444 with straight alpha" },
  { label: "PNG frames", form: "png_zip", means: "numbered, in a zip" },
];

export const QUALITIES = [
  { value: "fast", label: "Fast", means: "The quickest: for a first look." },
  { value: "balanced", label: "Balanced", means: "Good edges at a good speed. Start here." },
  { value: "best", label: "Best", means: "Often a little better than Balanced, in two to three times its time." },
];

const chosen = { quality: "balanced" };
export const qualityLabel = (name) => QUALITIES.find(({ value }) => value === name)?.label ?? "";
export const quality = () => chosen.quality;
export function chooseQuality(value) {
  chosen.quality = value;
  find(`quality-${value}`).checked = true;
  explainQuality();
}

export const preset = () => find("preset").value;
export function choosePreset(name) {
  find("preset").value = name;
  explainPreset();
}

export function canShow(name) {
  const { plays } = PRESETS[name] ?? { plays: "" };
  return plays !== "" && document.createElement("video").canPlayType(plays) !== "";
}

export function setUpChoices(onChange) {
  radios(find("qualities"), "quality", QUALITIES, chosen.quality, (value) => {
    chosen.quality = value;
    explainQuality();
    onChange();
  });
  explainQuality();
  find("preset").append(...presetOptions());
  find("preset").addEventListener("change", () => {
    explainPreset();
    onChange();
  });
  explainPreset();
}

export function presetOptions() {
  return Object.entries(PRESETS).map(([value, { label }]) => make("option", { value, textContent: label }));
}

function explainQuality() {
  find("quality-means").textContent = QUALITIES.find(({ value }) => value === chosen.quality).means;
}

function explainPreset() {
  find("preset-means").textContent = PRESETS[preset()].means;
}
