// Cut the crop of a face out of a photo: the window, its pixels, and what in it is blanked. It
// knows one photo and one box, as core's crop code does in Python; no networks.

import { ellipseMask } from "./ellipse.js";
import { resizeSquare, roundHalfEven } from "./resize.js";

/** Backgrounds that the page can cut; the export refuses others. */
export const BACKGROUNDS = ["ellipse", "box"];

/** Return the square {x0, y0, side, angle} around a face, in whole pixels. */
export function faceWindow(box, landmarks, settings) {
  const longer = Math.max(box.x1 - box.x0, box.y1 - box.y0);
  const side = Math.max(1, longer * (1 + settings.margin));
  let angle = 0;
  if (settings.align && landmarks) {
    const [left, right] = landmarks;
    const turn = Math.atan2(Math.fround(right.y - left.y), Math.fround(right.x - left.x));
    angle = Math.fround((turn * 180) / Math.PI);
  }
  const whole = Math.max(1, roundHalfEven(side));
  return {
    x0: roundHalfEven((box.x0 + box.x1) / 2 - whole / 2),
    y0: roundHalfEven((box.y0 + box.y1) / 2 - whole / 2),
    side: whole,
    angle,
  };
}

/** Return the crop of a face {data, side, channels}: RGB bytes of `settings.image_size` squared. */
export function makeCrop(photo, box, landmarks, settings) {
  const window = faceWindow(box, landmarks, settings);
  const pixels = window.angle ? turned(photo, window, settings.fill)
    : upright(photo, window, settings.fill);
  const crop = resizeSquare(pixels, settings.image_size);
  return settings.background === "ellipse" ? blankOutside(crop, box, window, settings) : crop;
}

/** Return the window's pixels, {data, side, channels} RGB; `fill` past the photo's edge. */
function upright(photo, { x0, y0, side }, fill) {
  const data = new Uint8Array(side * side * 3).fill(fill);
  const left = Math.max(0, -x0);
  const right = Math.min(side, photo.width - x0);
  const bottom = Math.min(side, photo.height - y0);
  for (let y = Math.max(0, -y0); y < bottom; y++) {
    let from = ((y + y0) * photo.width + left + x0) * 4;
    let to = (y * side + left) * 3;
    for (let x = left; x < right; x++, from += 4, to += 3) {
      data[to] = photo.data[from];
      data[to + 1] = photo.data[from + 1];
      data[to + 2] = photo.data[from + 2];
    }
  }
  return { data, side, channels: 3 };
}

/** Return the window's pixels, turned about its centre so that the eyes are level. */
function turned(photo, { x0, y0, side, angle }, fill) {
  const turn = (angle * Math.PI) / 180;
  const cosine = Math.cos(turn);
  const sine = Math.sin(turn);
  const half = side / 2;
  const data = new Uint8Array(side * side * 3);
  const { width, height } = photo;
  const read = (x, y, c) => (
    x < 0 || y < 0 || x >= width || y >= height ? fill : photo.data[(y * width + x) * 4 + c]);
  for (let y = 0, to = 0; y < side; y++) {
    for (let x = 0; x < side; x++, to += 3) {
      const atX = cosine * (x - half) - sine * (y - half) + x0 + half;
      const atY = sine * (x - half) + cosine * (y - half) + y0 + half;
      const column = Math.floor(atX);
      const row = Math.floor(atY);
      const right = atX - column;
      const down = atY - row;
      for (let c = 0; c < 3; c++) {
        const above = read(column, row, c) * (1 - right) + read(column + 1, row, c) * right;
        const below = read(column, row + 1, c) * (1 - right) + read(column + 1, row + 1, c) * right;
        data[to + c] = roundHalfEven(above * (1 - down) + below * down);
      }
    }
  }
  return { data, side, channels: 3 };
}

function blankOutside(crop, box, window, { ellipse_width, ellipse_height, fill }) {
  const { data, side } = crop;
  const scale = side / window.side;
  const centre = [
    ((box.x0 + box.x1) / 2 - window.x0) * scale - 0.5,
    ((box.y0 + box.y1) / 2 - window.y0) * scale - 0.5,
  ];
  const axes = [
    ((box.x1 - box.x0) / 2) * ellipse_width * scale,
    ((box.y1 - box.y0) / 2) * ellipse_height * scale,
  ];
  const mask = ellipseMask(side, centre, axes);
  const out = new Uint8Array(data.length);
  for (let at = 0; at < data.length; at++) {
    const weight = mask[Math.floor(at / 3)];
    out[at] = Math.floor((data[at] * weight + fill * (255 - weight) + 127) / 255);
  }
  return { data: out, side, channels: 3 };
}
