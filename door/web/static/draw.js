// Draws boxes and their words over a picture. It knows canvases; it decides nothing.

const COLOURS = {
  good: ["#0b7a3b", "#ffffff"],
  warn: ["#b45309", "#ffffff"],
  bad: ["#c02626", "#ffffff"],
  other: ["#334155", "#ffffff"],
};

/** Return the kind of a class: it decides the colour. */
export function kindOf(name) {
  return { wear: "good", incorrect: "warn", normal: "bad" }[name] ?? "other";
}

/**
 * Draw labelled boxes.
 *
 * @param canvas it gets the size of the picture.
 * @param boxes [{box: [x1, y1, x2, y2], kind, label}] in pixels of the picture.
 * @param mirrored whether the picture is shown as in a mirror; words never are.
 */
export function drawBoxes(canvas, width, height, boxes, mirrored = false) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  for (const { box, kind, label } of boxes) {
    const [x1, y1, x2, y2] = mirrored ? [width - box[2], box[1], width - box[0], box[3]] : box;
    drawBox(context, [x1, y1, x2, y2], COLOURS[kind], label);
  }
}

function drawBox(context, [x1, y1, x2, y2], [colour, onColour], label) {
  const { width, height } = context.canvas;
  const size = Math.max(14, Math.round(Math.max(width, height) / 34));
  context.lineWidth = Math.max(3, Math.round(size / 3.5));
  context.strokeStyle = "#ffffff";
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.lineWidth = Math.max(2, Math.round(size / 6));
  context.strokeStyle = colour;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  if (!label) return;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const wide = context.measureText(label).width + size;
  const tall = size * 1.5;
  const left = Math.max(0, Math.min(x1, width - wide));
  const top = y1 >= tall ? y1 - tall : Math.min(y2, height - tall);
  context.fillStyle = colour;
  context.fillRect(left, top, wide, tall);
  context.fillStyle = onColour;
  context.textBaseline = "middle";
  context.fillText(label, left + size / 2, top + tall / 2);
}
