// The corrections of the model that is chosen: what was corrected here and in other tabs, and how to correct more. The
// server has the rows in the order in which they were made, and this module asks for those that it does not know yet.
import { Refusal, get, post } from "./api.js";

const EVERY = 3000; // milliseconds between two questions for what others corrected

export const corrections = {
  asked: null, // the model and version that the rows are of
  rows: [], // in the order of the table
  waiting: [], // rows that the server has not confirmed yet
  pending: 0, // photos that a new version would have otherwise than the newest
  newest: 1, // the number of the newest version
  training: null, // what the server trains, or trained last
  error: "",
};
let count = 0, timer = null, listeners = new Set(), sending = Promise.resolve(), holding = new Map();
let lost = false; // whether the last question for what others corrected failed

const keyOf = (digest, was) => digest + " " + was;

// Return the row that holds for a photo; undefined where nobody corrected it.
export const rowOf = (digest, was) => holding.get(keyOf(digest, was));

// Return the rows that hold, the last one first.
export const inForce = () => holding.values();

export function onChange(listener) {
  // Call a function after each change, until the function that is returned is called.
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function follow(model, version) {
  // Load the corrections of a model, and go on asking for new ones. Raises Refusal.
  const asked = { model, version };
  if (JSON.stringify(corrections.asked) !== JSON.stringify(asked)) {
    Object.assign(corrections, { asked, rows: [], waiting: [], pending: 0, error: "" });
    count = 0;
  }
  clearTimeout(timer);
  await load();
  schedule();
}

export function stop() {
  clearTimeout(timer);
  timer = null;
}

function schedule(after = EVERY) {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const now = () => JSON.stringify([count, corrections.pending, corrections.training, corrections.error]);
    const before = now();
    try {
      if (document.visibilityState === "visible") await load();
      if (lost) corrections.error = "";
      lost = false;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      corrections.error = error.message;
      lost = true;
    }
    if (timer === null) return;
    if (before !== now()) changed();
    schedule(isTraining() ? 400 : EVERY);
  }, after);
}

export const isTraining = () => corrections.training !== null && corrections.training.state === "training";

async function load() {
  const asked = corrections.asked;
  const [news, training] = await Promise.all([get("/page/corrections", { ...asked, since: count }), get("/page/retrain")]);
  if (asked !== corrections.asked) return; // another model was chosen meanwhile
  const known = new Set(news.rows.map((row) => row.id));
  if (news.start === 0) corrections.rows = [];
  corrections.rows = [...corrections.rows.filter((row) => !known.has(row.id)), ...news.rows];
  corrections.waiting = corrections.waiting.filter((row) => !known.has(row.id));
  Object.assign(corrections, { pending: news.pending, newest: news.newest, training });
  count = news.count;
  settle();
}

function settle() {
  // Find the row that holds for each photo: the last one that is not taken back.
  const undone = new Set();
  holding = new Map();
  for (const row of [...corrections.rows, ...corrections.waiting].reverse()) {
    if (undone.has(row.id)) continue;
    if (row.action === "undo") undone.add(row.undone ? row.undone.id : row.label);
    else if (!holding.has(keyOf(row.digest, row.was))) holding.set(keyOf(row.digest, row.was), row);
  }
}

function changed() {
  for (const listener of listeners) listener();
}

export function correct(action, photo, label = "") {
  // Send a correction of a photo, { digest, was }; it is shown at once, and taken back where the server refuses it.
  const undone = action === "undo" ? rowOf(photo.digest, photo.was) : null;
  if (action === "undo" && !undone) return;
  const row = { id: "new" + Math.random(), action, digest: photo.digest, was: photo.was, label, undone, asked: corrections.asked };
  corrections.waiting.push(row);
  settle();
  changed();
  sending = sending.then(() => deliver(row));
}

async function deliver(row) {
  // What is taken back was sent before, so that the server's id of it is known now, unless the server refused it.
  const body = row.undone ? { action: "undo", id: row.undone.id } : { action: row.action, digest: row.digest, was: row.was, label: row.label };
  try {
    if (!row.undone || !row.undone.id.startsWith("new")) {
      row.id = (await post("/page/corrections", row.asked, body)).id;
      await load();
      corrections.error = "";
    } else corrections.waiting = corrections.waiting.filter((one) => one !== row);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    corrections.waiting = corrections.waiting.filter((one) => one !== row);
    corrections.error = error.message;
    settle();
  }
  changed();
}

export async function retrain() {
  // Have the server train the next version.
  try {
    corrections.training = await post("/page/retrain", { model: corrections.asked.model });
    corrections.error = "";
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    corrections.error = error.message;
  }
  changed();
  schedule(300);
}
