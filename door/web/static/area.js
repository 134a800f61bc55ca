// Area resize for the detector: means over whole-pixel bins, read from an integral image
// (summed-area table; Crow, SIGGRAPH 1984). It knows pixels alone, no boxes and no networks.
// A photo is {data, width, height} with data RGBA, one byte a channel, as ImageData has it.

/** Return the starts and ends of `count` bins over `length` pixels, from pixel `first` on. */
export function areaBins(first, length, count) {
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    starts[i] = first + Math.floor((i * length) / count);
    ends[i] = first + Math.ceil(((i + 1) * length) / count);
  }
  return { starts, ends };
}

/** The sums of all pixels above and to the left of each pixel, for the three channels. */
export class IntegralImage {
  constructor(photo) {
    const { data, width, height } = photo;
    this.width = width;
    this.height = height;
    this.stride = (width + 1) * 3;
    // Sums may wrap around; differences stay exact while a bin's own sum is below 2 ** 31.
    const sums = new Int32Array((height + 1) * this.stride);
    let at = this.stride;
    for (let y = 0, pixel = 0; y < height; y++) {
      let red = 0, green = 0, blue = 0;
      at += 3;
      for (let x = 0; x < width; x++, pixel += 4, at += 3) {
        sums[at] = sums[at - this.stride] + (red += data[pixel]);
        sums[at + 1] = sums[at + 1 - this.stride] + (green += data[pixel + 1]);
        sums[at + 2] = sums[at + 2 - this.stride] + (blue += data[pixel + 2]);
      }
    }
    this.sums = sums;
  }

  /**
   * Write a window, resized and scaled to [-1, 1], as three planes into `out` from `offset` on.
   * The window is {x0, y0, x1, y1} in whole pixels, half open, inside the photo and not empty.
   */
  resizeInto(out, offset, window, width, height) {
    const { x0, y0, x1, y1 } = window;
    const columns = areaBins(x0, x1 - x0, width);
    const rows = areaBins(y0, y1 - y0, height);
    const { sums, stride } = this;
    const plane = width * height;
    const fround = Math.fround;
    for (let y = 0; y < height; y++) {
      const top = rows.starts[y] * stride;
      const bottom = rows.ends[y] * stride;
      const tall = rows.ends[y] - rows.starts[y];
      for (let x = 0; x < width; x++) {
        const left = columns.starts[x] * 3;
        const right = columns.ends[x] * 3;
        const area = tall * (columns.ends[x] - columns.starts[x]);
        const to = offset + y * width + x;
        for (let c = 0; c < 3; c++) {
          const sum = (sums[bottom + right + c] - sums[bottom + left + c]
            - sums[top + right + c] + sums[top + left + c]) | 0;
          out[to + c * plane] = fround(fround(sum / area) - 127.5) * 0.0078125;
        }
      }
    }
  }
}
