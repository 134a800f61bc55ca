// The mask of a filled ellipse with a smooth edge, as close as a grey level or two to the one that
// the training crops are cut with. The ellipse is a polygon; pixels whose centre is inside are 255,
// and the polygon's sides are lines with a Gaussian profile across (Gupta and Sproull, SIGGRAPH
// 1981) and a box filter of two pixels along. It knows shapes alone, no photos.

import { roundHalfEven } from "./resize.js";

const PLACES = 16; // centre and axes are rounded to this fraction of a pixel
const DEVIATION = 0.5285; // of the Gaussian across a side, in pixels
const PEAK = 254.5; // and its value in the middle

/** Return (size * size) bytes: 255 inside, 0 outside, and between them at the edge. */
export function ellipseMask(size, centre, axes) {
  const fix = (value) => roundHalfEven(value * PLACES) / PLACES;
  const radii = axes.map((value) => Math.max(1 / PLACES, fix(value)));
  const points = polygon(centre.map(fix), radii);
  const mask = new Uint8Array(size * size);
  points.forEach((point, i) => drawSide(mask, size, point, points[(i + 1) % points.length]));
  fillInside(mask, size, points);
  return mask;
}

function polygon([x, y], [wide, tall]) {
  const longest = Math.floor(Math.max(wide, tall) + 0.5);
  const step = longest < 3 ? 90 : longest < 10 ? 30 : longest < 15 ? 18 : 5;
  const points = [];
  for (let angle = 0; angle < 360; angle += step) {
    const turn = (angle * Math.PI) / 180;
    points.push([x + wide * Math.cos(turn), y + tall * Math.sin(turn)]);
  }
  return points;
}

/** Blend a line into the mask, pixel by pixel along its longer direction. */
function drawSide(mask, size, from, to) {
  const along = Math.abs(to[0] - from[0]) > Math.abs(to[1] - from[1]) ? 0 : 1;
  const across = 1 - along;
  const [start, end] = from[along] <= to[along] ? [from, to] : [to, from];
  const length = end[along] - start[along];
  if (length === 0) return;
  const slope = (end[across] - start[across]) / length;
  const strength = Math.sqrt((1 + within(slope, 32) ** 2) / 2);
  const [first, last] = [within(start[along], 16), within(end[along], 16)];
  for (let at = Math.floor(first); at <= Math.floor(last) + 1; at++) {
    const cover = (Math.min(at + 1, last) - Math.max(at - 1, first)) / 2;
    if (cover <= 0 || at < 0 || at >= size) continue;
    const middle = within(start[across] + slope * (at - start[along]), 32);
    const near = Math.floor(middle + 0.5);
    for (let pixel = near - 1; pixel <= near + 1; pixel++) {
      if (pixel < 0 || pixel >= size) continue;
      const profile = Math.round(PEAK * Math.exp(-0.5 * ((pixel - middle) / DEVIATION) ** 2));
      const value = Math.floor((Math.floor(cover * strength * 256) * profile) / 256);
      const place = along === 0 ? pixel * size + at : at * size + pixel;
      blend(mask, place, value);
      blend(mask, place, value);
    }
  }
}

/** Return the middle of the part, of `parts` in one, that a value falls into. */
function within(value, parts) {
  return (Math.floor(value * parts) + 0.5) / parts;
}

function blend(mask, place, value) {
  mask[place] += Math.floor(((255 - mask[place]) * value + 127) / 256);
}

/** Set the pixels inside a convex polygon, its corners rounded to whole rows, to 255. */
function fillInside(mask, size, points) {
  const row = ([, y]) => Math.floor(y + 0.5);
  const lowest = Math.max(...points.map(row));
  const left = new Array(size).fill(Infinity);
  const right = new Array(size).fill(-Infinity);
  points.forEach((point, i) => {
    const next = points[(i + 1) % points.length];
    const [upper, lower] = point[1] <= next[1] ? [point, next] : [next, point];
    const [top, bottom] = [row(upper), row(lower)];
    const end = bottom === lowest ? bottom : bottom - 1; // the next side begins at its last row
    for (let y = Math.max(top, 0); y <= Math.min(end, size - 1); y++) {
      const x = upper[0] + ((lower[0] - upper[0]) * (y - top)) / Math.max(bottom - top, 1);
      left[y] = Math.min(left[y], x);
      right[y] = Math.max(right[y], x);
    }
  });
  for (let y = 0; y < size; y++) {
    const first = Math.max(0, Math.ceil(left[y]));
    const last = Math.min(size - 1, Math.floor(right[y]));
    if (first <= last) mask.fill(255, y * size + first, y * size + last + 1);
  }
}
