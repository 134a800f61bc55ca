// Opens a bundle: reads its manifest, checks the hashes of its networks, and prepares them to run
// with ONNX Runtime Web on one thread. It knows files and tensors; nothing of faces.

import * as ort from "./ort.wasm.bundle.min.js";

/** Open the bundle below `base`; return its manifest and its networks by file name. */
export async function openBundle(base) {
  const manifest = JSON.parse(new TextDecoder().decode(await readFile(`${base}manifest.json`)));
  ort.env.wasm.numThreads = 1; // more would need headers that a static server does not send
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmBinary = await readFile("ort-wasm-simd-threaded.wasm");
  const nets = {};
  for (const [name, { sha256 }] of Object.entries(manifest.files)) {
    if (!name.endsWith(".onnx")) continue;
    const content = await readFile(base + name);
    await checkHash(name, content, sha256);
    nets[name] = await openNet(content);
  }
  return { manifest, nets };
}

async function readFile(name) {
  const response = await fetch(new URL(name, import.meta.url)); // a blob has no base
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return response.arrayBuffer();
}

async function checkHash(name, content, wanted) {
  if (!self.crypto?.subtle) return; // only pages from https or from this computer have it
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hash !== wanted) throw new Error(`${name} is not the file that the manifest lists`);
}

/** Return a function from a float32 array and its shape to the outputs {name: {data, dims}}. */
async function openNet(content) {
  const session = await ort.InferenceSession.create(new Uint8Array(content), {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
  });
  const [input] = session.inputNames;
  return (data, dims) => session.run({ [input]: new ort.Tensor("float32", data, dims) });
}
