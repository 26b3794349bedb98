// The matte tools: sliders that act on the canvas at once, and the fields that the service is sent.
import { NEUTRAL } from "./compositor.js";
import { find, make } from "./dom.js";

const SLIDERS = [
  { name: "grow_px", label: "Grow", unit: "px", min: -10, max: 10, step: 0.5, title: "Moves the outline outwards, or inwards below zero" },
  { name: "feather_px", label: "Feather", unit: "px", min: 0, max: 20, step: 0.5, title: "Softens the outline" },
  { name: "min_part_px", label: "Remove specks", unit: "px", min: 0, max: 5000, step: 50, title: "Removes separate parts that have fewer pixels" },
  { name: "black", label: "Black point", unit: "", min: 0, max: 0.95, step: 0.01, title: "Alpha up to this becomes background" },
  { name: "white", label: "White point", unit: "", min: 0.05, max: 1, step: 0.01, title: "Alpha from this on becomes foreground" },
  { name: "gamma", label: "Gamma", unit: "", min: 0.2, max: 3, step: 0.05, title: "Over 1, soft edges become more opaque" },
];

const matte = { ...NEUTRAL };
let tell = () => {};

export const currentMatte = () => ({ ...matte });

// What differs from the neutral values, by the service's names.
export const matteFields = () => Object.fromEntries(Object.entries(matte).filter(([name, value]) => value !== NEUTRAL[name]));

// `onChange(matte)` is called for every movement.
export function setUpMatte(onChange) {
  const reset = make("button", { type: "button", className: "plain", textContent: "Reset", disabled: true });
  tell = () => {
    reset.disabled = Object.keys(matteFields()).length === 0;
    onChange(currentMatte());
  };
  for (const { name, label, unit, min, max, step, title } of SLIDERS) {
    const input = make("input", { type: "range", id: `matte-${name}`, min, max, step, value: matte[name] });
    const value = make("output", { id: `matte-${name}-value`, htmlFor: input.id });
    input.addEventListener("input", () => {
      matte[name] = Number(input.value);
      keepApart(name);
      render();
      tell();
    });
    input.dataset.unit = unit;
    find("matte").append(make("label", { htmlFor: input.id, textContent: label, title }), input, value);
  }
  const despill = make("select", { id: "matte-despill" },
    ...["none", "green", "blue"].map((name) => make("option", { value: name, textContent: name === "none" ? "No" : name[0].toUpperCase() + name.slice(1) })));
  despill.addEventListener("change", () => {
    matte.despill = despill.value;
    tell();
  });
  const invert = make("input", { type: "checkbox", id: "matte-invert" });
  invert.addEventListener("change", () => {
    matte.invert = invert.checked;
    tell();
  });
  find("matte").append(
    make("label", { htmlFor: despill.id, textContent: "Despill", title: "Takes the colour of a screen out of the subject" }),
    despill,
    reset,
    make("label", { className: "check", title: "Keeps the background instead" }, invert, " Invert"),
  );
  reset.addEventListener("click", () => {
    resetMatte();
    find("matte-grow_px").focus();
  });
  render();
}

export function resetMatte() {
  Object.assign(matte, NEUTRAL);
  find("matte-despill").value = matte.despill;
  find("matte-invert").checked = matte.invert;
  render();
  tell();
}

// The black point stays below the white one: the other one gives way.
function keepApart(moved) {
  if (matte.black < matte.white) return;
  if (moved === "black") matte.white = Math.min(1, matte.black + 0.01);
  else matte.black = Math.max(0, matte.white - 0.01);
}

function render() {
  for (const { name, unit } of SLIDERS) {
    find(`matte-${name}`).value = matte[name];
    const said = `${+matte[name].toFixed(2)}${unit && ` ${unit}`}`;
    find(`matte-${name}-value`).textContent = said;
    find(`matte-${name}`).setAttribute("aria-valuetext", said);
  }
}
