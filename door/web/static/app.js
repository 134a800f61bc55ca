// The page: buttons, the large status, the picture, and the loop that sends the camera's newest
// frame to the worker, one at a time. Nothing is stored: view and language are in the address.

import { CameraError, closeCamera, nextFrame, openCamera } from "./camera.js";
import { drawBoxes } from "./draw.js";
import { $, onChoice, readAddress, setAddress, showTexts } from "./elements.js";
import { Engine, keepOffline } from "./engine.js";
import { Photos } from "./photos.js";
import { Staff } from "./staff.js";
import { text } from "./strings.js";
import { fromKey, sayStatus, sayTrack } from "./words.js";

const MARKS = { good: "✓", warn: "!", bad: "✕", ask: "◉", idle: "", other: "" };
const engine = new Engine();
const staff = new Staff();
const photos = new Photos(engine);
let say = () => fromKey("loading", "idle"); // gives the status again in another language
let shownStatus = "";
let isRunning = false;
let isOffline = null;
let newest = null; // the worker's newest answer to a frame
let speed = 0;
let audio = null;

function showStatus(next = say) {
  say = next;
  const { kind, title, more } = say();
  const shown = JSON.stringify([kind, title, more]);
  if (shown === shownStatus) return; // so that a screen reader reads a status once
  shownStatus = shown;
  $("status").dataset.kind = kind;
  $("status-mark").textContent = MARKS[kind];
  $("status-text").textContent = title;
  $("status-more").textContent = more;
}

/** Return the status that says why the camera cannot be used; `reason` is a key of strings.js. */
function sayProblem(reason) {
  return { kind: "warn", title: text("noPicture"), more: text(reason) };
}

function showFrame(result) {
  newest = result;
  const { videoWidth, videoHeight } = $("video");
  const boxes = result.tracks.filter(({ seen }) => seen).map((track) => (
    { box: track.box, ...sayTrack(track, result.smallest) }));
  const mirrored = document.body.dataset.view === "door";
  drawBoxes($("overlay"), videoWidth, videoHeight, boxes, mirrored);
  showStatus(() => sayStatus(result));
}

function showSpeed() {
  const offline = isOffline === null ? "" : text(isOffline ? "offline" : "online");
  const rate = isRunning && speed ? `${speed.toFixed(1)} ${text("speed")}. ` : "";
  $("speed").textContent = rate + offline;
}

function beep() {
  if (!audio || !$("sound").checked) return;
  const tone = audio.createOscillator();
  const volume = audio.createGain();
  volume.gain.setValueAtTime(0.2, audio.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.5);
  tone.frequency.value = 660;
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.5);
}

/** Send the newest frame, wait for the answer, and so on: one frame is under way at most. */
async function follow() {
  const video = $("video");
  let last = performance.now();
  while (isRunning) {
    const { bitmap, time } = await nextFrame(video);
    if (!isRunning) return bitmap.close();
    const result = await engine.ask("frame", { bitmap, time }, [bitmap]);
    if (!isRunning) return undefined;
    const now = performance.now();
    speed = 0.8 * speed + 0.2 * (1000 / (now - last));
    last = now;
    showFrame(result);
    staff.update(result);
    showSpeed();
    if (result.events.some(({ alarm }) => alarm)) beep();
  }
  return undefined;
}

async function start() {
  $("camera").disabled = true;
  try {
    await openCamera($("video"), () => stop("cameraLost"));
  } catch (error) {
    showStatus(() => sayProblem(error instanceof CameraError ? error.reason : "noCamera"));
    return;
  } finally {
    $("camera").disabled = false;
  }
  isRunning = true;
  showCamera();
  showStatus(() => fromKey("nobody", "idle"));
  follow().catch((error) => {
    console.error(error);
    stop("cameraBusy");
  });
}

async function stop(reason = null) {
  if (!isRunning) return;
  isRunning = false;
  speed = 0;
  newest = null;
  closeCamera($("video"));
  drawBoxes($("overlay"), 1, 1, []);
  showCamera();
  showStatus(() => (reason ? sayProblem(reason) : fromKey("ready", "idle")));
  staff.end(await engine.ask("stop"));
  showSpeed();
}

function showCamera() {
  document.body.classList.toggle("running", isRunning);
  $("empty").hidden = isRunning;
  $("camera").textContent = text(isRunning ? "stopCamera" : "startCamera");
}

/** Show the view and the language that the address names, such as #view=staff&lang=ko. */
function render() {
  const view = readAddress().get("view") === "staff" ? "staff" : "door";
  document.body.dataset.view = view;
  for (const each of ["door", "staff"]) {
    $(`view-${each}`).setAttribute("aria-pressed", String(each === view));
  }
  showTexts();
  showCamera();
  showStatus();
  showSpeed();
  staff.render();
  photos.render();
  if (newest) showFrame(newest);
}

function listen() {
  for (const each of ["door", "staff"]) {
    $(`view-${each}`).addEventListener("click", () => {
      setAddress("view", each);
      render();
    });
  }
  onChoice(render);
  $("camera").addEventListener("click", () => (isRunning ? stop() : start()));
  $("photos").addEventListener("change", ({ target }) => {
    photos.add([...target.files]);
    target.value = "";
  });
  $("sound").addEventListener("change", async () => {
    audio ??= new AudioContext();
    await audio.resume();
    beep();
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!$("photos").disabled) photos.add([...event.dataTransfer.files]);
  });
}

async function open() {
  isOffline = await keepOffline();
  const { tasks, task } = await engine.ask("open", { base: "bundle/" });
  staff.setClasses(tasks[task].classes);
  photos.setTask(task);
  $("camera").disabled = $("photos").disabled = false;
  showStatus(() => fromKey("ready", "idle"));
  render();
  document.body.dataset.ready = "yes";
}

listen();
render();
open().catch((error) => {
  console.error(error);
  showStatus(() => ({ kind: "bad", title: text("failed"), more: error.message }));
});
