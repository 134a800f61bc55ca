// Talks with the worker: each question has a number, and its answer resolves a promise. Also
// registers the service worker that keeps the folder for offline use.

/** Start the worker. Its code comes from this folder, and this page's policy holds in it too. */
export class Engine {
  #worker;
  #waiting = new Map();
  #next = 1;
  #loaded;

  constructor() {
    // A worker from a blob inherits the page's Content-Security-Policy; one from a file would not.
    const code = `import ${JSON.stringify(new URL("worker.js", document.baseURI).href)};`;
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    this.#worker = new Worker(url, { type: "module" });
    this.#loaded = new Promise((resolve, reject) => {
      this.#waiting.set("loaded", { resolve, reject });
    });
    this.#worker.onmessage = ({ data: { id, error, ...answer } }) => {
      const { resolve, reject } = this.#waiting.get(id) ?? {};
      this.#waiting.delete(id);
      if (error) reject?.(new Error(error));
      else resolve?.(answer);
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(event.message || "the worker could not be loaded"));
      }
      this.#waiting.clear();
    };
  }

  /** Ask the worker; `transfer` lists what it takes over. Return its answer. */
  async ask(kind, content = {}, transfer = []) {
    await this.#loaded;
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, kind, ...content }, transfer);
    });
  }
}

/**
 * Keep the folder for offline use, and wait until the kept files are the ones that are used.
 * Return false where the browser, the address or a wrong file does not allow it.
 */
export async function keepOffline() {
  if (!navigator.serviceWorker || !window.isSecureContext) return false;
  try {
    const registered = await navigator.serviceWorker.register("service-worker.js", {
      updateViaCache: "none",
    });
    const fresh = registered.installing ?? registered.waiting;
    if (fresh) await isDone(fresh);
    if (registered.active && !navigator.serviceWorker.controller) {
      await new Promise((resolve) => {
        navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
        setTimeout(resolve, 3000);
      });
    }
    return Boolean(navigator.serviceWorker.controller);
  } catch (error) {
    console.warn(`the folder is not kept for offline use: ${error.message}`);
    return false;
  }
}

/** Wait until a service worker has kept the folder, or has given up. */
function isDone(worker) {
  return new Promise((resolve) => {
    const look = () => ["activated", "redundant"].includes(worker.state) && resolve();
    worker.addEventListener("statechange", look);
    look();
  });
}
