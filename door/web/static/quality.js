// How usable a face is: its sharpness, and how far it is turned. It follows core/faces/quality.py.

import { resizeSquare } from "./resize.js";

const SIDE = 48; // side in pixels at which sharpness is measured

/** Return the sharpness of the middle of a crop, 0 or more. */
export function sharpnessOf(crop) {
  const quarter = Math.floor(crop.side / 4);
  const side = crop.side - 2 * quarter;
  const data = new Uint8Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const at = ((y + quarter) * crop.side + x + quarter) * 3;
      const [red, green, blue] = crop.data.subarray(at, at + 3);
      data[y * side + x] = (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15;
    }
  }
  const grey = resizeSquare({ data, side, channels: 1 }, SIDE).data;
  return variance(laplacian(grey)) / (variance(grey) + 1);
}

/** Return the second differences, with the pixels mirrored past the border. */
function laplacian(grey) {
  const mirrored = (at) => (at < 0 ? -at : at >= SIDE ? 2 * SIDE - 2 - at : at);
  const pixel = (x, y) => grey[mirrored(y) * SIDE + mirrored(x)];
  return Float64Array.from(grey, (value, at) => {
    const x = at % SIDE;
    const y = Math.floor(at / SIDE);
    return pixel(x - 1, y) + pixel(x + 1, y) + pixel(x, y - 1) + pixel(x, y + 1) - 4 * value;
  });
}

function variance(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
}

/** Return how far the nose is from the middle of the eyes, in distances of the eyes. */
export function turnOf([left, right, nose]) {
  const across = { x: right.x - left.x, y: right.y - left.y };
  const length = across.x ** 2 + across.y ** 2;
  if (length < 1e-6) return Infinity;
  const x = nose.x - (left.x + right.x) / 2;
  const y = nose.y - (left.y + right.y) / 2;
  return Math.abs((x * across.x + y * across.y) / length);
}
