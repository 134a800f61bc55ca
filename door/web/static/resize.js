// Resize of the square crop, by the rules of the library that cuts the training crops (OpenCV):
// area means with fractional borders where it shrinks, bilinear in fixed point where it grows.
// Pixels are {data, side, channels}: a square, one byte a channel, row by row.

/** Round to the nearest whole number, halves to the even one, as Python and C do. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** Resize a square of pixels to `size`. */
export function resizeSquare(pixels, size) {
  if (pixels.side === size) return pixels;
  return pixels.side > size ? shrink(pixels, size) : enlarge(pixels, size);
}

/** Return for each of `size` outputs the inputs that it covers, and their shares. */
function areaShares(side, size) {
  const scale = side / size;
  const least = 1e-3; // smaller shares are left out
  return Array.from({ length: size }, (_, i) => {
    const from = i * scale;
    const to = from + scale;
    const cell = Math.min(scale, side - from);
    const last = Math.min(Math.floor(to), side - 1);
    const first = Math.min(Math.ceil(from), last);
    const index = [];
    const share = [];
    const add = (at, part) => { index.push(at); share.push(Math.fround(part / cell)); };
    if (first - from > least) add(first - 1, first - from);
    for (let at = first; at < last; at++) add(at, 1);
    if (to - last > least) add(last, Math.min(to - last, 1, cell));
    return { index, share };
  });
}

function shrink({ data, side, channels }, size) {
  const shares = areaShares(side, size);
  const line = size * channels;
  const rows = new Float64Array(side * line);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < size; x++) {
      const { index, share } = shares[x];
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < index.length; k++) {
          sum += data[(y * side + index[k]) * channels + c] * share[k];
        }
        rows[y * line + x * channels + c] = sum;
      }
    }
  }
  const round = side === 2 * size ? (value) => Math.floor(value + 0.5) : roundHalfEven;
  const out = new Uint8Array(size * line);
  for (let y = 0; y < size; y++) {
    const { index, share } = shares[y];
    for (let at = 0; at < line; at++) {
      let sum = 0;
      for (let k = 0; k < index.length; k++) sum += rows[index[k] * line + at] * share[k];
      out[y * line + at] = round(sum);
    }
  }
  return { data: out, side: size, channels };
}

const ONE = 2048; // weights of the bilinear resize are whole numbers of this sum

function enlarge({ data, side, channels }, size) {
  const last = side - 1;
  const within = (at) => Math.min(Math.max(at, 0), last);
  const places = Array.from({ length: size }, (_, i) => {
    const at = Math.fround(((i + 0.5) * side) / size - 0.5);
    const low = Math.floor(at);
    const rest = Math.fround(at - low);
    const weight = (part) => roundHalfEven(Math.fround(part * ONE));
    return { low, first: weight(Math.fround(1 - rest)), second: weight(rest) };
  });
  const line = size * channels;
  const rows = new Int32Array(side * line);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < size; x++) {
      const { low, first, second } = places[x];
      const left = (y * side + within(low)) * channels;
      const right = (y * side + within(low + 1)) * channels;
      for (let c = 0; c < channels; c++) {
        rows[y * line + x * channels + c] = data[left + c] * first + data[right + c] * second;
      }
    }
  }
  const out = new Uint8Array(size * line);
  for (let y = 0; y < size; y++) {
    const { low, first, second } = places[y];
    const above = within(low) * line;
    const below = within(low + 1) * line;
    for (let at = 0; at < line; at++) {
      const sum = ((first * (rows[above + at] >> 4)) >> 16)
        + ((second * (rows[below + at] >> 4)) >> 16);
      out[y * line + at] = (sum + 2) >> 2;
    }
  }
  return { data: out, side: size, channels };
}
