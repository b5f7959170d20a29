// Try: photos are dropped on the page, and their answers appear.
import { about } from "./frame.js";

export const isShown = () => about.models.length > 0 || !about.project;

export function open(panel) {
  panel.append(make("h2", {}, say("section_try")));
}

export function close() {}
