// What is behind a cut-out: nothing, a colour, a picture of the user's, the clip blurred or darker.
import { BACKINGS } from "./compositor.js";
import { find, radios, show } from "./dom.js";

const SENT = ["image/jpeg", "image/png", "image/webp"]; // what the service takes
const LABELS = { checker: "Nothing", colour: "Colour", picture: "Picture", blur: "Blur", original: "Dim" };
const backing = { kind: "colour", colour: "#2563c9", picture: null };
let compositor, tell, note;

// `kind` is one of BACKINGS; `picture` a file that the service can be sent.
export const currentBacking = () => ({ ...backing });

export function setUpBacking(ours, onChange, onNote) {
  compositor = ours;
  tell = onChange;
  note = onNote;
  radios(find("backing-choice"), "behind", BACKINGS.map((value) => ({ value, label: LABELS[value] })), backing.kind, (value) => {
    backing.kind = value;
    render();
  });
  find("backing-colour").addEventListener("input", () => setColour(find("backing-colour").value));
  find("backing-picture").addEventListener("change", () => find("backing-picture").files[0] && takePicture(find("backing-picture").files[0]));
  setColour(backing.colour);
}

export function setColour(colour) {
  find("backing-colour").value = backing.colour = colour;
  if (compositor) render();
}

// Puts the picture behind the subject.
export async function takePicture(file) {
  try {
    const bitmap = await createImageBitmap(file);
    compositor.setPicture(bitmap);
    backing.picture = SENT.includes(file.type) ? file : await asPng(bitmap);
    note("");
  } catch {
    return note("This browser cannot read this picture.");
  }
  backing.kind = "picture";
  find("behind-picture").checked = true;
  render();
}

function render() {
  if (backing.kind === "picture" && !compositor.hasPicture) {
    const dusk = scenery();
    compositor.setPicture(dusk);
    asPng(dusk).then((file) => (backing.picture ??= file));
  }
  compositor.settings.backing = BACKINGS.indexOf(backing.kind);
  compositor.settings.colour = backing.colour.match(/[0-9a-f]{2}/gi).map((each) => parseInt(each, 16) / 255);
  show(find("backing-colour"), backing.kind === "colour");
  show(find("backing-choose"), backing.kind === "picture");
  tell();
}

async function asPng(pixels) {
  const canvas = Object.assign(document.createElement("canvas"), { width: pixels.width, height: pixels.height });
  canvas.getContext("2d").drawImage(pixels, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([/** @type {Blob} */ (blob)], "background.png", { type: "image/png" });
}

// A dusk over hills, until the user gives a picture.
function scenery() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
  const pen = canvas.getContext("2d");
  const sky = pen.createLinearGradient(0, 0, 0, 300);
  for (const [at, colour] of [[0, "#1b2a52"], [0.5, "#7d4a7b"], [0.8, "#e2795b"], [1, "#f7c777"]]) sky.addColorStop(Number(at), String(colour));
  pen.fillStyle = sky;
  pen.fillRect(0, 0, 640, 360);
  pen.fillStyle = "#ffe3a8";
  pen.beginPath();
  pen.arc(450, 218, 34, 0, 7);
  pen.fill();
  for (const [colour, level, swing, length] of [["#54406b", 225, 30, 90], ["#35305a", 265, 24, 60], ["#1c2143", 310, 20, 110]]) {
    pen.fillStyle = String(colour);
    pen.beginPath();
    pen.moveTo(0, 360);
    for (let x = 0; x <= 640; x += 8) pen.lineTo(x, Number(level) + Number(swing) * (Math.sin(x / Number(length)) + 0.4 * Math.sin(x / 23)) * 0.6);
    pen.lineTo(640, 360);
    pen.fill();
  }
  return canvas;
}
