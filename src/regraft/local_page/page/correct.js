// Corrections in a report: what `served` of reporting/page/page.js adds to it. The labels in the data of the report are
// replaced, and the matrix and the figures are counted again.
import { correct, corrections, inForce, rowOf } from "./corrections.js";

export function correcting(data) {
  const photos = data.photos;
  const first = { label: [...photos.label], measured: [...photos.measured] };
  const photo = (i) => ({ digest: photos.digest[i], was: photos.was[i] });
  const row = (i) => rowOf(photos.digest[i], photos.was[i]);
  const labelOf = (i) => data.classes[photos.label[i]];
  const suggestionOf = (i) => {
    if (photos.answer[i] !== photos.label[i] && photos.measured[i]) return data.classes[photos.answer[i]];
    return data.suspects.includes(i) && photos.suggested[i] !== photos.label[i] ? data.classes[photos.suggested[i]] : null;
  };

  // ---- what a person does

  const change = (i, label) => {
    const wanted = label.normalize("NFC").trim();
    if (wanted) correct(wanted === photos.was[i] ? "confirm" : "label", photo(i), wanted);
  };
  const confirm = (i) => correct("confirm", photo(i), labelOf(i));
  const exclude = (i) => correct("exclude", photo(i));
  const undo = (i) => correct("undo", photo(i));

  function press(event, i) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.target.matches("input, select")) return false;
    const key = event.key.toLowerCase();
    const cards = !document.getElementById("photo").open;
    if (key === "x") exclude(i);
    else if (key === "c" || (key === "enter" && !event.target.matches("button"))) confirm(i);
    else if (key === "u") undo(i);
    else if (key === "t" && document.getElementById("new-label")) document.getElementById("new-label").focus();
    else if (/^[1-9]$/.test(key) && key <= data.classes.length) change(i, data.classes[key - 1]);
    else if (cards && (key === "arrowright" || key === "arrowleft")) return goOn(event, key === "arrowright" ? 1 : -1);
    else return false;
    return true;
  }

  // ---- what stands below a photo

  function stateOf(i) {
    const found = row(i);
    if (!found) return null;
    const waits = found.id.startsWith("new");
    if (found.action === "exclude") return make("span", { class: "badge mark out", "data-waits": waits }, "✕ ", say("mark_out"));
    if (found.action === "label") return make("span", { class: "badge mark new", "data-waits": waits }, "✎ ", format("mark_label", { label: found.label, was: photos.was[i] || "–" }));
    return make("span", { class: "badge mark good", "data-waits": waits }, "✓ ", say("mark_good"));
  }

  function mark(i) {
    const suggestion = suggestionOf(i), found = row(i);
    const button = (name, act, ...text) => make("button", { id: `${name}-${i}`, class: "quiet", onclick: () => act(i) }, ...text);
    return make("div", { class: "marks" }, stateOf(i), make("div", { class: "tools" },
      suggestion && !found ? button("change", () => change(i, suggestion), format("label_change", { label: suggestion })) : null,
      found ? button("undo", undo, say("label_undo")) : [button("confirm", confirm, say("label_good")), button("exclude", exclude, say("label_out"))]));
  }

  function tools(i) {
    const found = row(i), classes = data.classes.slice(0, 9);
    return make("div", { class: "correct", role: "group", "aria-label": say("correct"), tabindex: "-1", autofocus: true },
      make("div", { class: "tools classes-keys" }, classes.map((label, c) => make("button", {
        "data-class": c, "aria-pressed": String(photos.label[i] === c && !isOut(i)), onclick: () => change(i, label) }, make("kbd", {}, c + 1), make("bdi", {}, label))),
      labelForm(data.classes, (label) => change(i, label))),
      make("div", { class: "tools" },
        make("button", { id: "good", onclick: () => confirm(i) }, make("kbd", {}, "C"), say("label_good")),
        make("button", { id: "out", onclick: () => exclude(i) }, make("kbd", {}, "X"), say("label_out")),
        make("button", { id: "undo", disabled: !found, onclick: () => undo(i) }, make("kbd", {}, "U"), say("label_undo")),
        make("span", { role: "status", class: "state" }, stateOf(i) || make("span", { class: "soft small" }, format("given", { label: labelOf(i) })))),
      make("p", { class: "wrong", role: "alert" }, corrections.error));
  }

  const isOut = (i) => { const found = row(i); return Boolean(found) && found.action === "exclude"; };

  // ---- the data of the report

  function indexOf(label) {
    // Return the index of a class, which is added where the report does not have it.
    const at = data.classes.indexOf(label);
    if (at >= 0) return at;
    const e = data.evaluation;
    data.classes.push(label);
    for (const line of e.confusion) line.push(0);
    e.confusion.push(data.classes.map(() => 0));
    e.per_class.push({ label, n: 0, precision: null, recall: null, f1: null });
    for (const side of Object.keys(data.counts)) data.counts[side].push(0);
    return data.classes.length - 1;
  }

  function count(i, by) {
    const label = photos.label[i];
    if (photos.measured[i] && data.evaluation.confusion.length) data.evaluation.confusion[label][photos.answer[i]] += by;
    const counts = data.counts[data.sides[photos.side[i]]];
    if (counts) counts[label] += by;
  }

  function apply() {
    // Give each photo of the report the label that holds now, and return whether any changed.
    let any = false;
    for (let i = 0; i < photos.path.length; i += 1) {
      const found = row(i);
      const wanted = found && found.action !== "exclude" ? found.label || photos.was[i] : photos.was[i] || data.classes[first.label[i]];
      const label = isOut(i) ? photos.label[i] : indexOf(wanted), measured = isOut(i) ? 0 : first.measured[i];
      if (label === photos.label[i] && isOut(i) === Boolean(data.out.has(i))) continue;
      if (!data.out.has(i)) count(i, -1);
      photos.label[i] = label;
      photos.measured[i] = measured;
      if (isOut(i)) data.out.add(i); else { data.out.delete(i); count(i, 1); }
      any = true;
    }
    if (any) measure(data);
    return any;
  }

  data.out = new Set();
  const everything = photos.path.map((_, i) => i);
  const done = () => new Set(everything.filter((i) => row(i)));

  function tabs(lists) {
    state.redraw = lists.redraw;
    return { corrected: () => correctedTable(), all: () => [
      make("h2", {}, say("tab_all"), " ", make("span", { class: "badge" }, number(photos.path.length))),
      make("p", { class: "small soft" }, format("keys_how", { classes: "1–9" })), lists.listTools(), lists.photoList(everything, photos.path.length)] };
  }

  apply();
  return { apply, served: { mark, tools, press, done, tabs } };
}

function correctedTable() {
  // Return all corrections that hold, the newest first, each with a button that takes it back.
  const rows = [...inForce()];
  const what = { label: (row) => make("bdi", {}, row.label), exclude: () => say("mark_out"), confirm: () => say("mark_good") };
  const line = (row) => make("tr", {},
    make("td", {}, make("bdi", { class: "path" }, row.path)), make("td", {}, make("bdi", {}, row.was || "–")), make("td", {}, what[row.action](row)),
    make("td", {}, make("button", { class: "quiet", "aria-label": `${say("label_undo")}: ${row.path}`, onclick: () => correct("undo", row) }, say("label_undo"))));
  return [
    make("h2", {}, say("tab_corrected"), " ", make("span", { class: "badge" }, number(rows.length))), make("p", { class: "soft" }, say("corrected_how")),
    rows.length ? make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("tab_corrected") }, make("table", { class: "corrected" },
      make("thead", {}, make("tr", {}, ["path", "was", "now"].map((key) => make("th", { scope: "col" }, say(key))), make("td"))),
      make("tbody", {}, rows.slice(0, state.shown).map(line)))) : make("p", {}, say("corrected_none")),
    rows.length > state.shown ? make("button", { id: "more", onclick: () => { state.shown += 48; state.redraw("more"); } }, say("more")) : null,
  ];
}

function goOn(event, by) {
  // From a card go to the next one, or the one before.
  const card = event.target.closest(".card");
  const next = by > 0 ? card.nextElementSibling : card.previousElementSibling;
  if (next) next.querySelector(".seen").focus();
  return Boolean(next);
}

export function labelForm(classes, onlabel) {
  // Return a field into which the name of any class can be typed.
  const field = make("input", { type: "text", id: "new-label", list: "classes", size: 14, autocomplete: "off", "aria-label": say("label_other"), placeholder: say("label_other") });
  const submit = (event) => { event.preventDefault(); const label = field.value; field.value = ""; onlabel(label); };
  return make("form", { class: "label-form", onsubmit: submit }, field, make("datalist", { id: "classes" }, classes.map((label) => make("option", { value: label }))));
}

function measure(data) {
  // Count the figures of the report again. The intervals are those of the report alone, and are left out.
  const e = data.evaluation, confusion = e.confusion;
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  e.n = sum(confusion.map(sum));
  e.accuracy = e.n ? sum(confusion.map((line, i) => line[i])) / e.n : null;
  e.interval = e.calibration_error = null;
  e.per_class.forEach((one, i) => {
    const answered = sum(confusion.map((line) => line[i])), n = sum(confusion[i]), right = confusion[i][i];
    Object.assign(one, { n, precision: answered ? right / answered : null, recall: n ? right / n : null, f1: answered + n ? (2 * right) / (answered + n) : null });
    for (const name of ["precision", "recall", "f1"]) one[name + "_interval"] = null;
  });
  const there = e.per_class.filter((one) => one.n);
  e.balanced_accuracy = there.length ? sum(there.map((one) => one.recall)) / there.length : null;
  e.macro_f1 = there.length ? sum(there.map((one) => one.f1)) / there.length : null;
}
