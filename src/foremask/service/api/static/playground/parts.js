// The connected parts of a mask on a grid: those that are too small go. As the service does: src/foremask/vision/matting/matte.py.

// `cells` are of four bytes each: the greatest alpha, the mean alpha, and two that do not count. They become white, and
// black where a part's alphas sum to less than `least`. Parts are connected at corners, too.
export function partsToKeep(cells, width, height, least) {
  const seen = new Uint8Array(width * height);
  const part = new Int32Array(width * height);
  for (let start = 0; start < seen.length; start++) {
    if (seen[start] || !cells[4 * start]) continue;
    const count = gather(cells, width, height, start, seen, part);
    let sum = 0;
    for (let at = 0; at < count; at++) sum += cells[4 * part[at] + 1];
    const shade = sum / 255 < least ? 0 : 255;
    for (let at = 0; at < count; at++) cells[4 * part[at] + 2] = shade;
  }
  for (let at = 0; at < cells.length; at += 4) cells[at] = cells[at] ? cells[at + 2] : 255;
}

// The cells of the part at `start` go into `part`; answers how many they are.
function gather(cells, width, height, start, seen, part) {
  let count = 1;
  part[0] = start;
  seen[start] = 1;
  for (let done = 0; done < count; done++) {
    const x = part[done] % width;
    const y = (part[done] - x) / width;
    for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++)
      for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
        const next = row * width + column;
        if (seen[next] || !cells[4 * next]) continue;
        seen[next] = 1;
        part[count++] = next;
      }
  }
  return count;
}
