// How an answer looks: bars, "none of these", the nearest training photos and the activation map.
import { image, query } from "./api.js";
import { chosen } from "./frame.js";

export const answerText = (answer) => (answer.none_of_these ? say("none_of_these") : answer.top[0].label);

export function bars(answer, most) {
  // Return the elements of an answer: the class in large letters, and a bar for each of the most probable classes.
  const [best] = answer.top;
  return [
    make("div", { class: "best" }, answer.none_of_these ? make("span", { class: "wrong" }, say("none_of_these")) : [make("bdi", { class: "name" }, best.label), " ", make("span", { class: "soft" }, share(best.probability, 0))]),
    make("table", { class: "bars" }, make("tbody", {}, answer.top.slice(0, most).map((pair) => make("tr", {},
      make("th", { scope: "row" }, make("bdi", {}, pair.label)), make("td", { class: "bar" }, bar(pair.probability)), make("td", { class: "number" }, share(pair.probability, 0)))))),
  ];
}

const noveltyLine = (answer) => (answer.novelty === null ? null : make("div", { class: "soft small" }, say("novelty"), " ", fixed(answer.novelty, 2)));

const address = (digest) => `/page/photos/${digest}${query(chosen())}`;

function nearList(photo) {
  if (photo.presence === "export") return null;
  if (photo.presence === "loading") return make("p", { class: "small soft" }, say("near_loading"));
  if (photo.presence === "gone") return make("p", { class: "small soft", title: photo.why }, say("near_gone"));
  return make("ul", { class: "near", "aria-label": say("nearest") }, photo.near.map((one) =>
    make("li", { title: `${one.label} ${fixed(one.similarity, 2)}` }, make("span", { class: "picture tiny" }, image(address(one.digest), say("training_photo", { label: one.label }))),
      make("bdi", {}, one.label), one.same ? make("span", { class: "soft" }, say("same_photo")) : null)));
}

function heat(photo, label) {
  const at = photo.map ? photo.map.labels.indexOf(label) : -1;
  return at < 0 ? null : heatCanvas(photo.map, at, label);
}

const seen = (photo, canvas, kind = "") => make("span", { class: "picture " + kind }, canvas, photo.answer ? heat(photo, photo.answer.top[0].label) : null);

export function drawCard(photo, onopen) {
  // Return the content of the card of a photo.
  const path = make("div", { class: "path" }, make("bdi", {}, photo.path));
  if (photo.state === "failed") return [seen(photo, photo.canvas), make("div", { class: "text" }, make("div", { class: "best wrong" }, say("unreadable")), make("p", { class: "reason", lang: "en" }, photo.reason), path)];
  if (photo.state !== "answered") return [seen(photo, photo.canvas), make("div", { class: "text" }, make("p", { class: "soft" }, say("waits")), path)];
  return [
    make("button", { class: "seen", "aria-label": say("more_about", { path: photo.path }), onclick: onopen }, seen(photo, photo.canvas)),
    make("div", { class: "text" }, bars(photo.answer, 3), photo.answer.none_of_these ? noveltyLine(photo.answer) : null, path, nearList(photo)),
  ];
}

export function showDetail(photo, canvas) {
  // Open the dialog with a photo in large, the map of one class, and all that was answered.
  const dialog = document.getElementById("photo");
  const box = make("span", { class: "picture big" }, canvas);
  const mapped = photo.map ? photo.map.labels : [];
  const overlay = (label) => { for (const old of box.querySelectorAll(".heat")) old.remove(); if (label) box.append(heat(photo, label)); };
  overlay(mapped[0]);
  const choice = mapped.length === 0 ? make("p", { class: "small soft" }, say(photo.presence === "export" ? "is_export" : "map_none"))
    : make("label", { class: "tools" }, say("map_for"), make("select", { onchange: (event) => overlay(event.target.value) }, mapped.map((label) => make("option", {}, label)), make("option", { value: "" }, say("map_none"))));
  dialog.replaceChildren(
    make("div", { class: "detail" }, make("div", {}, box, choice, photo.map ? make("p", { class: "small soft" }, say("map_means")) : null),
      make("div", {}, bars(photo.answer, 5), noveltyLine(photo.answer), photo.answer.none_of_these ? make("p", {}, say("why_none")) : null, make("h3", {}, say("nearest")), nearList(photo) || make("p", { class: "small soft" }, say("is_export")),
        make("p", { class: "path" }, make("bdi", {}, photo.path)))),
    make("div", { class: "tools" }, make("button", { class: "main", autofocus: true, onclick: () => dialog.close() }, say("close"))));
  dialog.setAttribute("aria-label", photo.path);
  dialog.showModal();
}
