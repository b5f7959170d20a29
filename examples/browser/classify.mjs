// Classify photos in a browser with an export of `regraft export RUN --format onnx` and ONNX Runtime Web.
// Beside this file lie model.onnx and export.json of the export, and in ort/ the folder dist/ of the npm package
// onnxruntime-web.

import * as ort from "./ort/ort.min.mjs";

/** What is needed to classify: `folder` is the address of the export's files. */
export async function load(folder) {
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const report = await (await fetch(`${folder}/export.json`)).json();
  const session = await ort.InferenceSession.create(`${folder}/model.onnx`);
  return { session, facts: report.facts };
}

/** The label of a photo (a File or Blob), its probability, and all that the model says. */
export async function classify({ session, facts }, photo) {
  const size = facts.transform.size;
  const image = new ort.Tensor("uint8", await pixels(photo, facts.transform), [1, size, size, 3]);
  const found = await session.run({ image });
  const probabilities = Array.from(found.probabilities.data);
  const novelty = found.novelty ? found.novelty.data[0] : null;
  const best = probabilities.indexOf(Math.max(...probabilities));
  const novel = novelty !== null && facts.threshold !== null && novelty > facts.threshold;
  const label = novel ? "none of these" : facts.classes[best];
  return { label, probability: probabilities[best], nearest: facts.classes[best], probabilities, novelty };
}

/** PREPROCESSING.md: upright, on white, the crop, scaled; RGB bytes. */
async function pixels(photo, { size, crop }) {
  const bitmap = await createImageBitmap(photo, { imageOrientation: "from-image" });
  const side = Math.min(bitmap.width, bitmap.height) * (crop ?? 1);
  const [width, height] = crop === null ? [bitmap.width, bitmap.height] : [side, side];
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d", { colorSpace: "srgb" });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, size, size);
  context.drawImage(bitmap, (bitmap.width - width) / 2, (bitmap.height - height) / 2, width, height, 0, 0, size, size);
  const rgba = context.getImageData(0, 0, size, size).data;
  const rgb = new Uint8Array(size * size * 3);
  for (let i = 0; i < size * size; i += 1) rgb.set(rgba.subarray(4 * i, 4 * i + 3), 3 * i);
  return rgb;
}
