// A picture that is dropped or chosen: the service cuts it out at once, and this browser saves it.
import { askJson, complain } from "./api.js";
import { quality } from "./choices.js";
import { find, make, show } from "./dom.js";
import { drawOnto, MOST_SENT, showStill } from "./stage.js";
import { needToken, refuse } from "./token.js";

const MOST_PX = 1024; // of a side, as the service is sent it
let asked = 0;
let picked = null; // the picture's file
let saved = { name: "", blob: null };

// `onNew` asks for another clip.
export function setUpStill(onNew) {
  find("still-new").addEventListener("click", onNew);
  find("still-again").addEventListener("click", () => cutOutPicture(picked));
  find("still-save").addEventListener("click", () => {
    const link = make("a", { href: URL.createObjectURL(saved.blob), download: saved.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

export function leaveStill() {
  asked += 1;
}

export async function cutOutPicture(file) {
  const mine = (asked += 1);
  picked = file;
  find("still-name").textContent = file.name;
  find("still-title").textContent = "Looking for the subject …";
  for (const id of ["still-save", "still-again"]) show(find(id), false);
  try {
    const picture = await createImageBitmap(file);
    await needToken();
    const { result } = await askJson("POST", "/v2/video/segment/preview", { picture: sendable(picture), quality: quality() });
    const mask = Object.assign(new Image(), { src: `data:image/png;base64,${result.mask}` });
    await mask.decode();
    if (mine !== asked) return;
    const alpha = alphaOf(mask);
    const cut = drawOnto(picture.width, picture.height, (pen) => {
      pen.drawImage(picture, 0, 0);
      pen.globalCompositeOperation = "destination-in";
      pen.imageSmoothingQuality = "high";
      pen.drawImage(alpha, 0, 0, picture.width, picture.height);
    });
    saved = { name: `${file.name.replace(/\.[^.]*$/, "")}.cutout.png`, blob: await new Promise((resolve) => cut.toBlob(resolve, "image/png")) };
    if (mine !== asked) return;
    await showStill(picture, mask, file.name);
    find("still-title").textContent = "Done";
    show(find("still-save"));
  } catch (error) {
    if (mine !== asked) return;
    find("still-title").textContent = "Not cut out";
    show(find("still-again"), error.reason !== undefined);
    if (error.reason?.startsWith("token_")) refuse(error);
    else complain(error.reason === undefined ? new Error("This browser cannot read this picture.") : error);
  }
}

// As a JPEG that the service takes.
function sendable(picture) {
  const scale = Math.min(1, MOST_PX / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const small = drawOnto(width, height, (pen) => pen.drawImage(picture, 0, 0, width, height));
  const url = small.toDataURL("image/jpeg", 0.92);
  return url.length < MOST_SENT ? url : small.toDataURL("image/jpeg", 0.6);
}

// A grey mask as a picture whose alpha it is.
function alphaOf(mask) {
  return drawOnto(mask.naturalWidth, mask.naturalHeight, (pen, canvas) => {
    pen.drawImage(mask, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
    pen.putImageData(pixels, 0, 0);
  });
}
