// Keeps the folder, so that the page works offline after the first visit. Each file is checked
// against its hash in files.js; a folder with another version replaces the one kept before.
// It answers for the listed files alone, and asks the network for nothing else.

importScripts("files.js");

const { version, files } = self.FOLDER;
const CACHE = `cropfirst-${self.registration.scope}-${version}`;
const PREFIX = `cropfirst-${self.registration.scope}-`;

async function fetchChecked(name) {
  const response = await fetch(name, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  const content = await response.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hash !== files[name]) throw new Error(`${name} is not the file that files.js lists`);
  // A new response, since a browser refuses one that was redirected for a page.
  return new Response(content, { headers: { "Content-Type": response.headers.get("Content-Type") } });
}

async function keepFolder() {
  const cache = await caches.open(CACHE);
  for (const name of Object.keys(files)) {
    const url = new URL(name, self.registration.scope);
    if (!(await cache.match(url))) await cache.put(url, await fetchChecked(name));
  }
}

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
  }
  await self.clients.claim();
}

async function answer(request, name) {
  const cache = await caches.open(CACHE);
  return (await cache.match(new URL(name, self.registration.scope))) ?? fetch(request);
}

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(keepFolder());
});

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.hash = url.search = "";
  if (!url.href.startsWith(self.registration.scope)) return;
  const name = url.href.slice(self.registration.scope.length) || "index.html";
  if (name in files) event.respondWith(answer(event.request, name));
});
