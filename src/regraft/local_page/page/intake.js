// Photos that the user gives to the page: dropped, pasted, chosen, or taken by the camera. Nothing is sent from here.

const SUFFIX = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|hei[cf])$/i;
const isPhoto = (file) => file.type.startsWith("image/") || SUFFIX.test(file.name);

// ---- files and folders

async function photosIn(entry, found) {
  // Add the photos of a dropped folder, and of all folders in it, sorted by name. Hidden files are left out.
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    if (isPhoto(file)) found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader(), entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const one of entries) await photosIn(one, found);
}

export async function dropped(transfer) {
  // Return the photos of a drop as [{file, path}]. A file that was dropped by itself counts, whatever its name.
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => [item.webkitGetAsEntry && item.webkitGetAsEntry(), item.getAsFile()]); // now, or they are gone
  const found = [];
  for (const [entry, file] of entries) {
    if (entry && entry.isDirectory) await photosIn(entry, found);
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

function chosen(input, onphotos) {
  const found = [...input.files].filter((file) => !input.webkitdirectory || (isPhoto(file) && !file.name.startsWith(".")));
  onphotos(found.map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  input.value = ""; // so that the same file can be chosen again
}

export function pickers(onphotos, id = "pick") {
  // Return a button that chooses photos, and one that chooses a folder.
  const pick = (name, attributes) => {
    const input = make("input", { type: "file", hidden: true, id: `${id}-${name}`, ...attributes, onchange: (event) => chosen(event.target, onphotos) });
    return [input, make("button", { type: "button", id: `${id}-${name}-button`, onclick: () => input.click() }, say("choose_" + name))];
  };
  return [pick("photos", { multiple: true, accept: "image/*,.heic,.heif" }), pick("folder", { webkitdirectory: true })];
}

export function takesDrops(element, onphotos) {
  // Let photos be dropped on an element.
  let depth = 0;
  const mark = (change) => { depth = Math.max(0, depth + change); element.classList.toggle("over", depth > 0); };
  element.addEventListener("dragenter", (event) => { event.preventDefault(); mark(1); });
  element.addEventListener("dragleave", () => mark(-1));
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark(-depth);
    onphotos(await dropped(event.dataTransfer));
  });
}

export function pasted(event) {
  // Return the photos on the clipboard as [{file, path}].
  return [...event.clipboardData.files].filter(isPhoto).map((file) => ({ file, path: file.name || say("pasted") }));
}

// A photo that is dropped beside the place for it must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

// ---- the camera

const SIDE = 640; // pixels of the shorter side of a picture of the camera

export class Camera {
  // The picture of the camera in `element`, until `stop` is called. `start` returns why there is none, or "".
  constructor() {
    this.video = make("video", { playsinline: true, muted: true, "aria-label": say("camera_picture") });
    this.video.muted = true;
    this.stream = null;
  }

  async start() {
    if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) return say("camera_insecure");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
    } catch (error) {
      return say(error.name === "NotAllowedError" ? "camera_refused" : "camera_none");
    }
    this.video.srcObject = this.stream;
    await this.video.play();
    return "";
  }

  picture() {
    // Return a promise of what the camera sees now, as a JPEG.
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, SIDE / Math.min(width, height));
    const canvas = make("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  }

  stop() {
    if (this.stream) for (const track of this.stream.getTracks()) track.stop();
    this.stream = null;
  }
}

// ---- small pictures of the user's photos

let lastDrawn = Promise.resolve();

export function drawn(file, crop, side) {
  // Return a canvas with the part of a photo that the network sees. Photos are decoded one after the other, since a large
  // one takes much memory. `crop` is the share of the shorter side; null for the whole photo. Undecodable: stays empty.
  const canvas = make("canvas", { width: side, height: side, "aria-hidden": "true" });
  lastDrawn = lastDrawn.then(async () => {
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      canvas.classList.add("missing");
      return;
    }
    const short = Math.min(bitmap.width, bitmap.height);
    const [width, height] = crop === null ? [bitmap.width, bitmap.height] : [crop * short, crop * short];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (bitmap.width - width) / 2, (bitmap.height - height) / 2, width, height, 0, 0, side, side);
    bitmap.close();
  });
  return canvas;
}
