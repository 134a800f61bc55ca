// The worker: photos and frames in, faces, tracks and events out. It holds the networks, so that
// the page stays responsive. Messages are plain objects; pixels arrive as ImageBitmaps, are read
// at their own size, and are forgotten after the answer.

import { openBundle } from "./bundle.js";
import { Door } from "./door.js";

let door = null;
let canvas = null;

/** Return the pixels of a bitmap, {data, width, height} RGBA; nothing is scaled. */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  if (canvas?.width !== width || canvas?.height !== height) {
    canvas = new OffscreenCanvas(width, height);
  }
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

const handlers = {
  async open({ base }) {
    const { manifest, nets } = await openBundle(base);
    door = new Door(manifest, nets);
    await door.warmUp();
    return { tasks: manifest.tasks, task: door.task };
  },
  frame: ({ bitmap, time }) => door.frame(readPixels(bitmap), time),
  photo: async ({ bitmap }) => ({ faces: await door.photo(readPixels(bitmap)) }),
  stop: () => door.stop(),
};

self.onmessage = async ({ data: { id, kind, ...rest } }) => {
  try {
    const answer = await handlers[kind](rest);
    self.postMessage({ id, ...answer });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
self.postMessage({ id: "loaded" });
