"use strict";
// What the pages in one file and the page of the server share: text in two languages, elements, bars and maps. It knows no
// data of a page. The script that follows fills `words` (sentences by language and key) and may add to `state`.
// All text becomes text nodes and never HTML.
const words = {};
const state = { language: (navigator.language || "en").startsWith("ko") ? "ko" : "en" };
const SVG = "http://www.w3.org/2000/svg";

// ---- text and elements

function format(key, values) {
  // Return the parts of a sentence: text, and an element for each value in it.
  const text = words[state.language][key];
  return text.split(/(\{\w+\})/).map((part) => {
    const name = /^\{(\w+)\}$/.exec(part);
    return name && values && name[1] in values ? shown(values[name[1]]) : part;
  });
}

function shown(value) {
  if (Array.isArray(value)) return value.flatMap((item, i) => (i ? [", ", shown(item)] : [shown(item)]));
  if (value instanceof Node || typeof value === "number") return typeof value === "number" ? number(value) : value;
  if (value && value.code) return make("code", {}, value.code);
  if (value && value.key) return words[state.language][value.key];
  return make("bdi", {}, String(value));
}

const say = (key, values) => words[state.language][key].replace(/\{(\w+)\}/g, (whole, name) => (values && name in values ? values[name] : whole));
const number = (value) => new Intl.NumberFormat(state.language).format(value);
const fixed = (value, digits) => new Intl.NumberFormat(state.language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
const share = (value, digits = 1) => (value === null || value === undefined ? "–" : fixed(100 * value, digits) + "\u00a0%");
const range = (pair) => (pair ? share(pair[0]) + " – " + share(pair[1]) : "–");

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.flat());
  return element;
}

const bar = (p) => draw("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("rect", { x: 0, y: 1, width: Math.max(0.5, 100 * p), height: 10, rx: 2 }));

function languageButtons(onchange) {
  return make("div", { class: "languages", role: "group", "aria-label": say("languages") }, Object.keys(words).map((language) =>
    make("button", { lang: language, id: "language-" + language, "data-language": language, "aria-pressed": String(language === state.language), onclick: () => { state.language = language; onchange("language-" + language); } }, words[language].language)));
}

// ---- activation maps

function heatCanvas(map, at, label) {
  // Draw the map number `at` of a photo: red where the photo speaks for the class with this label, blue where against it.
  const bytes = Uint8Array.from(atob(map.values[at]), (letter) => letter.charCodeAt(0));
  const small = make("canvas", { width: map.width, height: map.height });
  const pixels = new ImageData(map.width, map.height);
  bytes.forEach((byte, i) => {
    const value = (byte - 128) / 127;
    pixels.data.set(value > 0 ? [214, 40, 40, 255 * value] : [38, 92, 190, -255 * value], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const canvas = make("canvas", { class: "heat", width: 128, height: 128, role: "img", "aria-label": say("map_of", { label }) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, 128, 128);
  return canvas;
}
