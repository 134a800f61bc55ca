// The camera: opens it, and gives its newest frame when asked. It knows no faces and draws nothing.

const WANTED = { audio: false, video: { width: { ideal: 640 }, height: { ideal: 480 } } };

/** Why the camera could not be opened; `reason` is a key of strings.js. */
export class CameraError extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

const REASONS = {
  NotAllowedError: "cameraRefused",
  SecurityError: "cameraRefused",
  NotFoundError: "noCamera",
  OverconstrainedError: "noCamera",
  NotReadableError: "cameraBusy",
  AbortError: "cameraBusy",
};

/** Open the camera into a video element. `onLost` is called when it is pulled out. */
export async function openCamera(video, onLost) {
  if (!window.isSecureContext) throw new CameraError("insecure");
  if (!navigator.mediaDevices?.getUserMedia) throw new CameraError("noCamera");
  try {
    const stream = await navigator.mediaDevices.getUserMedia(WANTED);
    video.srcObject = stream;
    await video.play();
    stream.getVideoTracks()[0].addEventListener("ended", onLost);
  } catch (error) {
    closeCamera(video);
    throw new CameraError(REASONS[error.name] ?? "noCamera");
  }
}

/** Close the camera of a video element. */
export function closeCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** Return the next new frame as an ImageBitmap, and its time in seconds. */
export async function nextFrame(video) {
  await new Promise((resolve) => {
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(resolve);
    else setTimeout(resolve, 30);
  });
  const time = performance.now() / 1000;
  return { bitmap: await createImageBitmap(video), time };
}
