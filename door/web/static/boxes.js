// Pure functions on boxes {x0, y0, x1, y1} in photo pixels. They know no networks and no photos.
// Coordinates are rounded to float32 where the Python runtime computes in float32; the odd `+ 1`s
// are MTCNN's inclusive pixel coordinates.

const LEAST_INSIDE = 0.9; // share of a square in the photo below which the edge cuts it
const f = Math.fround;

/** Grow a box about its centre to a square of its longer side. */
export function makeSquare(box) {
  const width = f(box.x1 - box.x0);
  const height = f(box.y1 - box.y0);
  const side = Math.max(width, height);
  const x0 = f(f(box.x0 + f(width * 0.5)) - f(side * 0.5));
  const y0 = f(f(box.y0 + f(height * 0.5)) - f(side * 0.5));
  return { x0, y0, x1: f(x0 + side), y1: f(y0 + side) };
}

/** Move the four sides by fractions of the box's size; `extra` is 1 where sizes are inclusive. */
export function applyOffsets(box, offsets, extra) {
  const width = f(f(box.x1 - box.x0) + extra);
  const height = f(f(box.y1 - box.y0) + extra);
  return {
    x0: f(box.x0 + f(offsets[0] * width)),
    y0: f(box.y0 + f(offsets[1] * height)),
    x1: f(box.x1 + f(offsets[2] * width)),
    y1: f(box.y1 + f(offsets[3] * height)),
  };
}

/** Return the part of a box inside its photo as whole pixels, half open; null where it is empty. */
export function pixelWindow(box, width, height) {
  const x0 = Math.max(Math.trunc(box.x0), 1) - 1;
  const y0 = Math.max(Math.trunc(box.y0), 1) - 1;
  const x1 = Math.min(Math.trunc(box.x1), width);
  const y1 = Math.min(Math.trunc(box.y1), height);
  return x1 > x0 && y1 > y0 ? { x0, y0, x1, y1 } : null;
}

/** Return whether a part of a box is outside of the photo; its window is that of `pixelWindow`. */
export function isCutByEdge({ box, window }) {
  const whole = f(f(f(box.x1 - box.x0) + 1) * f(f(box.y1 - box.y0) + 1));
  return (window.x1 - window.x0) * (window.y1 - window.y0) / whole < LEAST_INSIDE;
}

/**
 * Put what the photo's edge left of a square, stretched to size x size pixels, where it is in the
 * square, with grey (0) around it. `pixels` holds three planes and is changed.
 */
export function unstretch(pixels, size, box, window) {
  const covers = (start, end, from, to) => {
    const whole = Math.trunc(end) - Math.trunc(start) + 1;
    const low = (from - Math.trunc(start) + 1) / whole * size;
    const step = (to - from) / whole;
    const rows = [];
    for (let i = 0; i < size; i++) {
      rows.push(Array.from({ length: size }, (_, j) => Math.max(
        Math.min(low + step * (j + 1), i + 1) - Math.max(low + step * j, i), 0)));
    }
    return rows;
  };
  const across = covers(box.x0, box.x1, window.x0, window.x1);
  const down = covers(box.y0, box.y1, window.y0, window.y1);
  for (let plane = 0; plane < 3; plane++) {
    const part = pixels.subarray(plane * size * size, (plane + 1) * size * size);
    multiply(part, across, size, size, 1);
    multiply(part, down, size, 1, size);
  }
}

/** Replace each line of a plane, whose cells are `step` apart, by `matrix` times the line. */
function multiply(plane, matrix, size, between, step) {
  for (let line = 0; line < size; line++) {
    const old = Array.from({ length: size }, (_, j) => plane[line * between + j * step]);
    matrix.forEach((row, i) => {
      plane[line * between + i * step] = row.reduce((sum, share, j) => sum + share * old[j], 0);
    });
  }
}

function overlap(a, b, extra, bySmaller) {
  const wide = Math.max(f(f(Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0)) + extra), 0);
  const tall = Math.max(f(f(Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0)) + extra), 0);
  const both = f(wide * tall);
  if (both <= 0) return 0;
  const areaA = f(f(f(a.x1 - a.x0) + extra) * f(f(a.y1 - a.y0) + extra));
  const areaB = f(f(f(b.x1 - b.x0) + extra) * f(f(b.y1 - b.y0) + extra));
  const least = bySmaller ? Math.min(areaA, areaB) : f(f(areaA + areaB) - both);
  return f(both / least);
}

function suppress(sorted, threshold, extra, bySmaller) {
  const limit = f(threshold);
  const kept = [];
  for (const each of sorted) {
    if (kept.every((better) => overlap(better.box, each.box, extra, bySmaller) <= limit)) {
      kept.push(each);
    }
  }
  return kept;
}

/**
 * Apply non-maximum suppression by IoU to candidates {box, score}; best score first. Equal scores
 * keep their order.
 */
export function nmsIou(candidates, threshold) {
  const sorted = [...candidates].sort((a, b) => b.score - a.score);
  return suppress(sorted, threshold, 0, false);
}

/** Apply NMS by intersection over the smaller area; of equal scores the last one wins. */
export function nmsSmaller(candidates, threshold) {
  const sorted = [...candidates].reverse().sort((a, b) => b.score - a.score);
  return suppress(sorted, threshold, 1, true);
}

/** Return the mean of the boxes that overlap a face's box by an IoU of 0.5 or more. */
export function meanOfOverlapping(face, faces) {
  const near = faces.filter((each) => (
    each.box === face.box || overlap(face.box, each.box, 0, false) >= 0.5));
  const mean = (side) => f(near.reduce((sum, { box }) => sum + box[side], 0) / near.length);
  return { x0: mean("x0"), y0: mean("y0"), x1: mean("x1"), y1: mean("y1") };
}
