// The bar with the number of corrections and the button that trains the next version, and what the training brought.
import { about, refresh } from "./frame.js";
import { corrections, isTraining, retrain } from "./corrections.js";

const TOLD = "regraft-told"; // the new run whose result was closed, also after the page is loaded again

export function bar(onversion, picture) {
  // Return the bar. `onversion` is called to look at a version, and `picture` returns the picture of a photo by its digest.
  const training = corrections.training || { state: "idle" };
  const mine = training.model === corrections.asked.model;
  return make("section", { class: "bar-of-corrections", "aria-label": say("corrections") },
    make("div", { class: "tools" },
      make("strong", { id: "pending", "data-count": corrections.pending }, corrections.pending ? format("pending", { count: corrections.pending, version: corrections.newest }) : say("pending_none")),
      make("button", { id: "retrain", class: "main", disabled: isTraining() || !corrections.pending, onclick: retrain }, say("retrain")),
      isTraining() ? make("span", { role: "status", class: "working" }, format("retraining", { model: training.model, seconds: fixed(training.seconds || 0, 0) })) : null),
    corrections.error ? make("p", { class: "wrong", role: "alert", id: "refused" }, corrections.error) : null,
    mine && training.state === "failed" ? make("p", { class: "wrong", role: "alert", id: "failed" }, format("training_failed"), " ", make("bdi", {}, training.error)) : null,
    mine && training.state === "done" && training.result.run !== sessionStorage.getItem(TOLD) ? outcome(training.result, onversion, picture) : null);
}

function outcome(result, onversion, picture) {
  const [before, after] = result.versions.map((version) => say("version_name", { version }));
  const d = result.difference, points = (value) => fixed(100 * value, 1);
  const figure = (name, found) => make("div", {}, make("dt", {}, name), make("dd", {}, share(found.accuracy)), make("dd", { class: "small soft" }, say("interval"), " ", range(found.interval)), make("dd", { class: "small soft" }, format("of_photos", { n: found.n })));
  const verdict = d && (d.interval[0] > 0 ? "change_better" : d.interval[1] < 0 ? "change_worse" : "change_unsure");
  const leave = (version) => { sessionStorage.setItem(TOLD, result.run); onversion(version); };
  return make("div", { class: "outcome", id: "outcome" },
    make("h2", { tabindex: "-1" }, format("trained", { version: after, seconds: fixed(result.seconds, 1) })),
    d ? make("p", { class: "verdict-small" }, format(verdict, { before, after, points: points(verdict === "change_worse" ? -d.difference : d.difference), low: points(d.interval[0]), high: points(d.interval[1]) })) : make("p", {}, say("not_compared")),
    make("dl", { class: "figures" }, result.before ? figure(before, result.before) : null, figure(after, result.after)),
    d ? make("p", { class: "small soft" }, format("change_counts", { n: d.n, gained: d.gained, lost: d.lost }), " ", format("same_labels")) : null,
    result.grown && result.grown.unknown ? make("p", { class: "small soft" }, format("not_paired", { count: result.grown.unknown })) : null,
    changedList("gained", result.gained, picture), changedList("lost", result.lost, picture),
    make("p", { class: "small soft" }, format("new_run", { run: { code: result.run } })),
    make("div", { class: "tools" },
      corrections.asked.version === result.versions[1] ? null : make("button", { class: "main", id: "look-new", onclick: () => leave(result.versions[1]) }, format("look_at", { version: after })),
      make("button", { id: "close-outcome", onclick: () => leave(null) }, say("close"))));
}

function changedList(key, list, picture) {
  if (!list.length) return null;
  const card = (one) => make("li", { class: "card" }, picture(one.digest), make("div", { class: "text" },
    make("div", { class: "soft" }, format("answer_before", { answer: one.earlier })),
    make("div", { class: key === "gained" ? "right" : "wrong" }, make("bdi", {}, one.answer), " ", share(one.probability, 0)),
    key === "lost" ? make("div", { class: "soft" }, format("given", { label: one.label })) : null,
    make("div", { class: "path" }, make("bdi", {}, one.path))));
  return make("details", { open: list.length <= 6, "data-changed": key }, make("summary", {}, say(key), " ", make("span", { class: "badge" }, number(list.length))),
    make("ul", { class: "photos" }, list.slice(0, 48).map(card)));
}

export async function noticeVersion() {
  // After a training, ask the server which versions it has; return whether there is a new one.
  const training = corrections.training;
  if (!training || training.state !== "done" || training.model !== corrections.asked.model) return false;
  const known = about.models.find((one) => one.name === training.model);
  if (!known || known.versions.includes(training.result.versions[1])) return false;
  await refresh();
  return true;
}
