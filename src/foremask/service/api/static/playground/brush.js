// The brush: a stroke is a list of places and a radius, in pixels of the clip; it is sent as a picture of its size.
const SOONEST = 0.25; // of the radius: places that are nearer to the last one add nothing
const sent = new WeakMap(); // by stroke, its picture, and what it was made for

/** A stroke that begins at a place. */
export const strokeAt = ({ x, y }, radius, negative, frame) => ({ type: "paint", places: [[x, y]], radius, negative, frame });

export function goOn(stroke, { x, y }) {
  const [lastX, lastY] = stroke.places.at(-1);
  if (Math.hypot(x - lastX, y - lastY) >= Math.max(1, SOONEST * stroke.radius)) stroke.places.push([x, y]);
}

// Strokes of one frame as one hint: white is put in, black is taken out, in their order. `scale` leads to the picture's pixels.
export function paintOf(strokes, width, height, scale = 1) {
  const last = strokes.at(-1);
  const made = `${strokes.length} ${width} ${height} ${scale}`;
  if (sent.get(last)?.made !== made) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const pen = canvas.getContext("2d");
    pen.lineCap = pen.lineJoin = "round";
    for (const { places, radius, negative } of strokes) {
      pen.strokeStyle = negative ? "#000" : "#fff";
      pen.lineWidth = 2 * radius * scale;
      pen.beginPath();
      for (const [x, y] of places) pen.lineTo((x + 0.5) * scale, (y + 0.5) * scale);
      if (places.length === 1) pen.lineTo((places[0][0] + 0.5) * scale + 0.01, (places[0][1] + 0.5) * scale);
      pen.stroke();
    }
    sent.set(last, { made, png: canvas.toDataURL("image/png").split(",")[1] });
  }
  return { type: "paint", png: sent.get(last).png, frame: last.frame };
}

// Strokes as they are drawn over the frame.
export function drawStrokes(strokes, width, height) {
  const { namespaceURI } = /** @type {Element} */ (document.querySelector("svg"));
  const picture = document.createElementNS(namespaceURI, "svg");
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.setAttribute("aria-hidden", "true");
  for (const { places, radius, negative, waits } of strokes) {
    const line = document.createElementNS(namespaceURI, "polyline");
    const drawn = places.length === 1 ? [...places, [places[0][0] + 0.01, places[0][1]]] : places; // a dab is a short line
    line.setAttribute("points", drawn.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(" "));
    line.setAttribute("stroke-width", String(2 * radius));
    line.setAttribute("class", `${negative ? "not" : "this"} ${waits ? "waits" : ""}`);
    picture.append(line);
  }
  return picture;
}
